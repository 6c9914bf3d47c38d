"""The parts of a hierarchy: shapes with any leading dimensions, what they start as, and what bounds the heads."""

import pytest
import torch
from torch import nn

from pplvm.networks.convolutional_top_down import ConvolutionalHierarchy
from pplvm.networks.top_down import ResidualBlock, TopDown, dense_bottom_up, dense_top_down


def dense():
    return dense_top_down(2, 5)


def of_maps():
    return ConvolutionalHierarchy((1, 4, 4), (1,), 5).top_down(2)[0]


KINDS = {"dense": (dense, (5,), (2,)), "maps": (of_maps, (5, 2, 2), (2, 2, 2))}


@pytest.fixture(params=KINDS)
def kind(request):
    make, state, latent = KINDS[request.param]
    return make(), state, latent


@pytest.mark.parametrize("leading", [(), (4,), (3, 4)])
def test_particles_and_batch_lie_left_of_the_state(kind, leading):
    group, state, latent = kind
    h, e, z = torch.randn(*leading, *state), torch.randn(4, *state), torch.randn(3, 4, *latent)
    loc, log_scale = group.prior(h)
    assert loc.shape == log_scale.shape == (*leading, *latent)
    d_loc, d_log_scale = group.residuals(h, e)
    assert d_loc.shape == d_log_scale.shape == (*torch.broadcast_shapes(leading, (4,)), *latent)
    assert group.update(h, z).shape == (3, 4, *state)


def test_the_prior_starts_as_standard_and_the_posterior_as_the_prior(kind):
    group, state, _ = kind
    h, e = torch.randn(3, *state), torch.randn(3, *state)
    for found in (*group.prior(h), *group.residuals(h, e)):
        assert torch.equal(found, torch.zeros_like(found))
    sum(found.sum() for found in group.residuals(h, e)).backward()
    assert group.residual_head.parameters().__next__().grad.abs().max() > 0  # it can leave it


@pytest.mark.parametrize("size", [1e4, -1e4])
def test_heads_and_their_slopes_are_finite_for_inputs_of_any_size(size):
    """In float32, through the exponential of twice the log scale, as in a KL; without the clamp they are not."""

    def slopes(clamp):
        group = dense_top_down(2, 5, clamp=clamp).float()
        for head in (group.prior_head, group.residual_head):
            nn.init.ones_(head.weight)
        h = torch.full((3, 5), abs(size), dtype=torch.float32, requires_grad=True)
        e = torch.full((3, 5), size, dtype=torch.float32, requires_grad=True)
        (_, log_scale), (d_loc, d_log_scale) = group.prior(h), group.residuals(h, e)
        value = ((2 * log_scale).exp() + (2 * d_log_scale).exp() + d_loc.square()).sum()
        return (value, *torch.autograd.grad(value, (h, e)), log_scale, d_loc, d_log_scale)

    *found, log_scale, d_loc, d_log_scale = slopes(5.0)
    assert all(each.isfinite().all() for each in found)
    assert max(float(each.detach().abs().max()) for each in (log_scale, d_loc, d_log_scale)) <= 5
    assert not all(each.isfinite().all() for each in slopes(None))


def test_a_block_starts_as_the_identity():
    h = torch.randn(3, 5)
    assert torch.equal(ResidualBlock(5)(h), h)


def test_features_come_from_the_top_down_and_the_mean_is_taken_off():
    mean = torch.linspace(0, 1, 6)
    network = dense_bottom_up(6, 5, num_groups=3, data_mean=mean)
    for stage in network.stages:
        nn.init.normal_(stage[-1].layers[-1].weight)
    top, middle, low = network(torch.randn(4, 6))
    assert torch.equal(network.stages[2](middle), top) and torch.equal(network.stages[1](low), middle)
    torch.testing.assert_close(network(mean.reshape(1, 2, 3))[2], network.stages[0](torch.zeros(1, 6)))


def test_maps_grow_from_scale_to_scale():
    """Of 28 x 28, two groups of 7 x 7 and one of 14 x 14; sizes that are odd are rounded up."""
    parts = ConvolutionalHierarchy((1, 28, 28), (2, 1), channels=4)
    features = parts.bottom_up()(torch.zeros(3, 1, 28, 28))
    assert [e.shape for e in features] == [(3, 4, 7, 7), (3, 4, 7, 7), (3, 4, 14, 14)]
    h, sizes = torch.zeros(3, *parts.top_shape), []
    for group in parts.top_down(latent_channels=2):
        loc, _ = group.prior(h)
        sizes.append(loc.shape[-3:])
        h = group.update(h, loc)
    assert sizes == [(2, 7, 7), (2, 7, 7), (2, 14, 14)] and h.shape == (3, 4, 14, 14)
    assert parts.to_image((1, 28, 28))(h).shape == (3, 1, 28, 28)
    assert ConvolutionalHierarchy((1, 7, 5), (1, 1), channels=4).top_shape == (4, 2, 2)


def test_weight_norm_reaches_the_blocks():
    plain, normed = (
        sum(
            1
            for name, _ in ConvolutionalHierarchy((1, 4, 4), (1,), 4, weight_norm=on).bottom_up().named_parameters()
            if "parametrizations" in name
        )
        for on in (False, True)
    )
    assert plain == 0 and normed > 0


def test_a_clamp_must_be_positive():
    for clamp in (0.0, -1.0):
        with pytest.raises(ValueError, match="clamp must be a positive number"):
            TopDown(nn.Linear, 2, 5, nn.Identity(), clamp)
