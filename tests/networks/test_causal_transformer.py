"""Causal transformers: what depends on what, to the bit; steps and one pass agree."""

import pytest
import torch
from torch import nn

from pplvm.distributions.code_prior import CodePrior
from pplvm.networks.causal_transformer import CausalTransformer
from pplvm.networks.transformer_layers import TransformerLayer

N, K = 6, 5


def network(context_size=0, awake=True, **sizes):
    torch.manual_seed(0)
    made = CausalTransformer(K, N, **dict(width=12, num_layers=2, num_heads=3) | sizes, context_size=context_size)
    if awake:
        with torch.no_grad():
            for p in made.parameters():
                p.copy_(torch.randn_like(p) / max(1, p.shape[-1]) ** 0.5)
    return made.eval()


def codes(*left):
    return torch.eye(K)[torch.randint(K, (*left, N))]


def prior(made):
    return CodePrior(made, lambda shape: made.init_cache(shape.numel()), made.step, event_shape=(N, K))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_change_of_a_code_leaves_the_logits_up_to_it_bit_equal_and_moves_the_rest(dtype):
    made, v = network(width=24).to(dtype), codes(3).to(dtype)
    before = made(v)
    for j in range(N):
        changed = v.clone()
        changed[:, j] = v[:, j].roll(1, -1)
        after = made(changed)
        assert torch.equal(after[:, : j + 1], before[:, : j + 1])
        assert j == N - 1 or ((after - before)[:, j + 1 :].abs().amax(-1) > 1e-6).all()
    made.later = torch.zeros_like(made.later)  # one that sees everything fails
    changed = v.clone()
    changed[:, 2] = v[:, 2].roll(1, -1)
    assert not torch.equal(made(changed)[:, :1], made(v)[:, :1])


def test_probabilities_sum_to_one_and_are_uniform_at_the_start():
    torch.manual_seed(1)
    states = torch.eye(3)[torch.cartesian_prod(*[torch.arange(3)] * 4)]  # 81
    for awake in (False, True):
        torch.manual_seed(2)
        made = CausalTransformer(3, 4, width=8, num_layers=2, num_heads=2)
        if awake:
            nn.init.normal_(made.last[1].weight, std=2.0)
        log_prob = CodePrior(made, made.init_cache, made.step, event_shape=(4, 3)).log_prob(states)
        assert float(log_prob.exp().sum().detach()) == pytest.approx(1.0, abs=1e-12)
        uniform = torch.full((81,), -4 * torch.tensor(3.0).log())
        assert torch.allclose(log_prob, uniform, atol=1e-12, rtol=0) != awake


def drawn(made, uniforms, incremental, context=None):
    """Codes from uniforms (R, N), by steps or by a full pass for each, and their logits."""
    rows = len(uniforms)
    v, told = torch.zeros(rows, N, K), []
    cache, before = made.init_cache(rows, context), None
    for i in range(N):
        if incremental:
            logits, cache = made.step(cache, before)
        else:
            logits = made(v, context)[:, i]
        index = (logits.softmax(-1).cumsum(-1) < uniforms[:, i, None]).sum(-1).clamp(max=K - 1)
        before = torch.eye(K)[index]
        v[:, i] = before
        told.append(logits)
    return v, torch.stack(told, 1)


@torch.no_grad()
@pytest.mark.parametrize("places", [0, 1, N])
def test_incremental_and_naive_sampling_give_the_same_codes(places):
    made = network(2 if places else 0)
    context = made.project(torch.randn(40, places, 2)) if places else None
    uniforms = torch.rand(40, N)
    (one, its), (other, others) = (drawn(made, uniforms, incremental, context) for incremental in (True, False))
    assert torch.equal(one, other)
    torch.testing.assert_close(its, others, atol=1e-5, rtol=0)
    torch.testing.assert_close(its, made(one, context), atol=1e-5, rtol=0)
    made.layers[1].step = lambda h, keys, values, place: h  # one that forgets a layer does not
    assert (drawn(made, uniforms, True, context)[1] - its).abs().max() > 1e-3


def test_leading_dimensions_and_contexts_broadcast():
    made = network(2)
    v, context = codes(5, 1), made.project(torch.randn(4, 1, 2))
    each = torch.stack([torch.stack([made(row[0], c) for c in context]) for row in v])
    torch.testing.assert_close(made(v, context), each)
    assert (each[:, 0] - each[:, 1]).abs().max() > 1e-3
    at_one = torch.randn(1, N, 2)
    moved = at_one.clone()
    moved[:, 3] += 1.0
    gap = (made(v, made.project(moved)) - made(v, made.project(at_one))).abs().amax((0, 1, 3))
    assert (gap > 0).tolist() == [False] * 3 + [True] * 3


def test_second_derivatives_and_vmap():
    made, v = network(), codes(4).requires_grad_()
    torch.testing.assert_close(torch.func.vmap(made)(v), made(v))
    (slope,) = torch.autograd.grad(made(v).square().sum(), v, create_graph=True)
    assert torch.autograd.grad(slope.square().sum(), made.start)[0].isfinite().all()
    layer = TransformerLayer(12, 3).eval()
    hidden = torch.rand(4, N, N) < 0.4
    hidden[:, range(N), range(N)] = False
    h = torch.randn(4, N, 12)
    each = torch.stack([layer(row, mask) for row, mask in zip(h, hidden, strict=True)])
    torch.testing.assert_close(layer(h, hidden), each)


def test_dropout_is_of_training_only():
    made = network(dropout=0.5)
    v = codes(4)
    assert torch.equal(made(v), made(v))
    made.train()
    assert not torch.equal(made(v), made(v))


@pytest.mark.parametrize(
    "sizes, told",
    [
        (dict(num_codes=1), "sizes must be at least 1, of 2 codes or more; got num_codes 1"),
        (dict(num_layers=0), "num_layers 0"),
        (dict(width=10, num_heads=4), "width 10 is no multiple of num_heads 4"),
    ],
)
def test_sizes(sizes, told):
    with pytest.raises(ValueError, match=f"CausalTransformer: .*{told}"):
        CausalTransformer(**dict(num_codes=4, num_positions=3) | sizes)


def test_inputs_of_another_grid_and_a_context_of_none():
    with pytest.raises(ValueError, match=r"inputs are \(..., 6, 5\), got \(2, 5, 5\)"):
        network()(torch.zeros(2, 5, 5))
    with pytest.raises(ValueError, match="there is no context to project: give context_size"):
        network().project(torch.zeros(2, 1, 1))
