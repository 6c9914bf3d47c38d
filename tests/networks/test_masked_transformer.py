"""Transformers of a visible set: what is hidden changes nothing, to the bit, and what is visible does."""

import pytest
import torch

from pplvm.networks.masked_transformer import MaskedTransformer

N, K = 5, 4


def network():
    torch.manual_seed(0)
    made = MaskedTransformer(K, N, width=12, num_layers=2, num_heads=3)
    with torch.no_grad():
        for p in made.parameters():
            p.copy_(torch.randn_like(p) / max(1, p.shape[-1]) ** 0.5)
    return made.eval()


def test_it_is_a_function_of_the_visible_codes():
    made, visible = network(), torch.tensor([True, False, True, True, False])
    v = torch.eye(K)[torch.randint(K, (3, N))]
    before = made(v, visible)
    for j in range(N):
        changed = v.clone()
        changed[:, j] = v[:, j].roll(1, -1)
        after = made(changed, visible)
        assert torch.equal(after, before) != bool(visible[j])
        assert not visible[j] or ((after - before).abs().amax(-1) > 1e-6).all()
        other = visible.clone()
        other[j] = ~visible[j]
        assert (made(v, other) - before).abs().amax() > 1e-6, "whether it is visible matters itself"


def test_positions_contexts_and_leading_dimensions():
    made = network()
    v, visible = torch.eye(K)[torch.randint(K, (3, 1, N))], torch.rand(3, 6, N) < 0.5
    every = made(v, visible)
    assert every.shape == (3, 6, N, K)
    positions = torch.randint(N, (6,))
    torch.testing.assert_close(made(v, visible, positions), every[:, range(6), positions])
    context = torch.randn(3, 1, 1, 12)
    each = torch.stack([made(*row) for row in zip(v, visible, [None] * 3, context, strict=True)])
    torch.testing.assert_close(made(v, visible, None, context), each)
    assert (each - every).abs().amax() > 1e-3
    assert torch.equal(MaskedTransformer(K, N, width=8)(v, visible), torch.zeros(3, 6, N, K)), "uniform at the start"


def test_sizes():
    with pytest.raises(ValueError, match="MaskedTransformer: width 10 is no multiple of num_heads 4"):
        MaskedTransformer(K, N, width=10)
    with pytest.raises(ValueError, match=r"MaskedTransformer: inputs are \(..., 5, 4\), got \(2, 6, 4\)"):
        network()(torch.zeros(2, 6, K), torch.ones(2, 6).bool())
