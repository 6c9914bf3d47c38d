"""The gated PixelCNN: what an output depends on, to the last bit, and that one pass and the steps agree."""

import pytest
import torch
from torch import nn
from torch.func import jacrev, vmap
from torch.nn.functional import conv2d, one_hot

from pplvm.networks.pixelcnn import PixelCNN
from pplvm.networks.pixelcnn_layers import GatedLayer


def awake(network, std=0.2):
    """With weights drawn, as those of the last layer start at zero."""
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=std)
    return network.eval()


def support(network, N, S):
    """(N, O, N, S): whether an output depends on an input, at any of a few inputs; a rectifier may hide it at one."""
    slopes = vmap(jacrev(network))(torch.randn(6, N, S))  # (6, N, O, N, S)
    return (slopes != 0).any(0)


def stated(grid, reach, in_channels, out_channels, num_groups=1):
    """The positions before, at most `reach` rows above and columns aside; at the position itself the groups before."""
    rows, columns = torch.arange(grid[0] * grid[1]) // grid[1], torch.arange(grid[0] * grid[1]) % grid[1]
    before = torch.arange(len(rows))[:, None] > torch.arange(len(rows))
    near = (rows[:, None] - rows <= reach) & ((columns[:, None] - columns).abs() <= reach)
    group = lambda channels: torch.arange(channels) * num_groups // channels
    itself = torch.eye(len(rows), dtype=torch.bool)[:, None, :, None]
    groups_before = group(out_channels)[:, None, None] > group(in_channels)
    return (before & near)[:, None, :, None] | (itself & groups_before)


class BlindSpot(nn.Module):
    """One stack of masked convolutions of 3x3: what is above at the right is hidden, however many layers."""

    def __init__(self, grid, in_channels, out_channels, num_layers=6):
        super().__init__()
        self.grid, mask = grid, torch.ones(3, 3)
        mask[1, 1:], mask[2] = 0.0, 0.0
        self.masks = [mask] + [mask + torch.eye(3)[1] * torch.eye(3)[:, [1]]] * (num_layers - 1)
        sizes = [in_channels, *[8] * (num_layers - 1), out_channels]
        shapes = zip(sizes[1:], sizes, strict=False)
        self.weights = nn.ParameterList(torch.empty(out, size, 3, 3) for out, size in shapes)

    def forward(self, v):
        h = v.reshape(-1, *self.grid, v.shape[-1]).movedim(-1, 1)
        for weight, mask in zip(self.weights, self.masks, strict=True):
            h = conv2d(h, weight * mask, padding=1).tanh()
        return h.movedim(1, -1).reshape(*v.shape[:-1], -1)


@pytest.mark.parametrize("grid", [(4, 4), (3, 5), (5, 2), (1, 4), (4, 1)])
def test_an_output_depends_on_all_positions_before_it_and_on_no_other(grid):
    N = grid[0] * grid[1]
    network = awake(PixelCNN(2, 3, grid, 8, (5, 3, 3)))
    assert torch.equal(support(network, N, 2), stated(grid, max(grid), 2, 3))


def test_one_stack_of_masked_convolutions_has_a_blind_spot_and_is_seen():
    found = support(awake(BlindSpot((4, 4), 2, 3), 0.5), 16, 2)
    expected = stated((4, 4), 4, 2, 3)
    assert not (found & ~expected).any() and (expected & ~found).any()
    assert not found[4, 0, 3].any(), "the first of a row does not see the last of that above"


def test_a_mask_that_is_open_at_the_position_itself_is_seen():
    network = awake(PixelCNN(2, 3, (2, 2), 8, (3, 3)))
    network.layers[0] = GatedLayer(2, 8, 3, 2, 0.0, first=True)
    network.layers[0].mask = torch.ones_like(network.layers[0].mask)
    assert (support(network, 4, 2) & ~stated((2, 2), 2, 2, 3)).any()


@pytest.mark.parametrize("kernel_sizes, reach", [((3,), 1), ((5,), 2), ((3, 3), 2), ((3, 1, 1), 1)])
def test_the_receptive_field_is_the_stated_square(kernel_sizes, reach):
    network = awake(PixelCNN(1, 2, (4, 5), 8, kernel_sizes))
    assert network.reach == reach
    assert torch.equal(support(network, 20, 1), stated((4, 5), reach, 1, 2))


def test_red_is_seen_by_green_and_both_by_blue():
    network = awake(PixelCNN(3, 6, (2, 3), 24, (3, 3, 3), num_groups=3))
    found = support(network, 6, 3)
    assert torch.equal(found, stated((2, 3), 3, 3, 6, num_groups=3))
    red, green, blue = found[1, ::2, 1]  # of one position
    assert (
        red.tolist() == [False] * 3 and green.tolist() == [True, False, False] and blue.tolist() == [True, True, False]
    )
    network.last.mask = torch.ones_like(network.last.mask)
    assert (support(network, 6, 3) & ~stated((2, 3), 3, 3, 6, num_groups=3)).any()


def by_steps(network, v, context=None):
    """The outputs of all steps, given the inputs of another pass, (R, N, O)."""
    R, N, S = v.shape
    G, cache, before, outputs = network.num_groups, network.init_cache(R, context), None, []
    for values in v.reshape(R, N * G, S // G).unbind(1):
        output, cache = network.step(cache, before)
        outputs.append(output)
        before = values
    return torch.stack(outputs, 1).reshape(R, N, -1)


CONTEXTS = {"none": None, "of all positions": (1, 1), "a map": (3, 4)}


@pytest.mark.parametrize("context", CONTEXTS.values(), ids=CONTEXTS)
@pytest.mark.parametrize("num_groups", [1, 2])
def test_steps_give_what_one_pass_gives(num_groups, context):
    network = awake(PixelCNN(4, 6, (3, 4), 8, (5, 1, 3), num_groups, context_channels=3 if context else 0))
    of_data = network.project(torch.randn(5, 3, *context)) if context else None
    v = torch.randn(5, 12, 4)
    full = network(v, of_data)
    assert full.abs().mean() > 0.1
    torch.testing.assert_close(by_steps(network, v, of_data), full, rtol=0, atol=1e-12)
    if context:
        alone = network.project(torch.randn(3, *context))
        torch.testing.assert_close(by_steps(network, v, alone), network(v, alone), rtol=0, atol=1e-12)
        assert (network(v, alone) - full).abs().max() > 1e-3


def test_steps_in_single_precision():
    network = awake(PixelCNN(16, 16, (4, 4), 16, dropout=0.3)).float()
    v = one_hot(torch.randint(16, (8, 16)), 16).float()
    assert (by_steps(network, v) - network(v)).abs().max() < 1e-5


def draw(logits, uniform):
    """The one-hot of the first code whose cumulative probability passes u."""
    below = logits.softmax(-1).cumsum(-1) < uniform[..., None] * (1 - 1e-6)
    return one_hot(below.sum(-1).clamp(max=logits.shape[-1] - 1), logits.shape[-1]).to(logits)


def test_steps_draw_the_codes_of_full_passes_from_the_same_uniforms():
    R, H, W, K = 50, 4, 4, 7
    network = awake(PixelCNN(K, K, (H, W), 8, (3, 3)), 0.5)
    uniforms = torch.rand(H * W, R)
    naive = torch.zeros(R, H * W, K)
    for n in range(H * W):
        naive[:, n] = draw(network(naive)[:, n], uniforms[n])
    cache, before, found = network.init_cache(R), None, []
    for n in range(H * W):
        logits, cache = network.step(cache, before)
        before = draw(logits, uniforms[n])
        found.append(before)
    assert torch.equal(torch.stack(found, 1), naive)
    assert naive.mean((0, 1)).min() > 0.01, "all codes occur"


def test_outputs_start_at_zero_and_every_weight_has_a_slope_once_the_last_has_moved():
    network = PixelCNN(4, 5, (3, 3), 8, (3, 3), context_channels=2)
    context = network.project(torch.randn(2, 1, 1))
    v = torch.randn(6, 9, 4)
    assert torch.equal(network(v, context), torch.zeros(6, 9, 5))
    nn.init.normal_(network.last.weight)
    network(v, context).square().sum().backward()
    for name, parameter in network.named_parameters():
        if "layers.1.vertical" not in name:  # of the last layer only what the horizontal stack reads
            assert parameter.grad.abs().max() > 0, name


def test_any_leading_dimensions():
    network = awake(PixelCNN(3, 4, (2, 2), 8, (3, 3), context_channels=2))
    v, maps = torch.randn(5, 6, 4, 3), torch.randn(6, 2, 2, 2)
    context = network.project(maps)
    together = network(v, context)
    apart = torch.stack([torch.stack([network(v[k, b], context[b]) for b in range(6)]) for k in range(5)])
    torch.testing.assert_close(together, apart)
    assert network(v[0, 0], context).shape == (6, 4, 4)
    torch.testing.assert_close(vmap(network)(v[0], context), together[0])


def test_dropout_is_of_training_mode():
    network = awake(PixelCNN(3, 4, (2, 2), 8, (3, 3), dropout=0.5))
    v = torch.randn(5, 4, 3)
    assert torch.equal(network(v), network(v))
    network.train()
    assert not torch.equal(network(v), network(v))


def test_residual_on_the_horizontal_stack_from_the_second_layer_on():
    for first in (True, False):
        layer = GatedLayer(8, 8, 3, 1, 0.0, first=first)
        nn.init.zeros_(layer.out.weight)
        nn.init.zeros_(layer.out.bias)
        v = torch.randn(2, 8, 3, 3)
        _, h = layer(v, v, None, torch.Size([2]))
        assert torch.equal(h, torch.zeros_like(v) if first else v)


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"kernel_sizes": (3, 2)}, "must be odd"),
        ({"kernel_sizes": (1, 3)}, "the first at least 3"),
        ({"kernel_sizes": ()}, "one of each layer"),
        ({"grid": (2, 0)}, "at least 1"),
        ({"channels": 0}, "at least 1"),
        ({"num_groups": 3}, "in_channels must be a multiple of num_groups, got 4 and 3"),
        ({"context_channels": -1}, "at least 1"),
    ],
)
def test_bad_input(wrong, said):
    with pytest.raises(ValueError, match=said):
        PixelCNN(**{"in_channels": 4, "out_channels": 4, "grid": (2, 2), "channels": 8} | wrong)


def test_inputs_and_contexts_of_another_grid():
    network = PixelCNN(4, 4, (2, 3), 8, (3,), context_channels=2)
    with pytest.raises(ValueError, match=r"inputs of a grid 2x3 are \(..., 6, S\), got shape \(5, 4, 4\)"):
        network(torch.zeros(5, 4, 4))
    with pytest.raises(ValueError, match=r"on the grid \(2, 3\).*got shape \(5, 2, 3, 3\)"):
        network.project(torch.zeros(5, 2, 3, 3))
    with pytest.raises(ValueError, match="give context_channels"):
        PixelCNN(4, 4, (2, 3), 8, (3,)).project(torch.zeros(5, 2, 1, 1))
