"""The bounds against each other, their limits and their gradients."""

import math

import pytest
import torch

from pplvm.bounds import elbo, iwae, renyi

ORDERS = [-3.0, -1.0, 0.0, 0.3, 0.9, 1.0, 1.5, 4.0]


def some_log_weights(K=7, B=50):
    return 3 * torch.randn(K, B) - 5


def test_known_values():
    log_weights = torch.tensor([[0.0, 2.0], [math.log(3.0), 2.0]])
    assert elbo(log_weights).tolist() == pytest.approx([math.log(3.0) / 2, 2.0])
    assert iwae(log_weights).tolist() == pytest.approx([math.log(2.0), 2.0])
    assert renyi(2.0)(log_weights).tolist() == pytest.approx([-math.log((1 + 1 / 3) / 2), 2.0])


def test_the_bounds_fall_strictly_as_alpha_grows():
    log_weights = some_log_weights()
    bounds = torch.stack([renyi(alpha)(log_weights) for alpha in ORDERS])
    assert (bounds[:-1] > bounds[1:]).all()


@pytest.mark.parametrize("alpha", [0.01, 0.5, 0.99])
def test_orders_between_0_and_1_lie_between_elbo_and_iwae(alpha):
    log_weights = some_log_weights()
    assert (elbo(log_weights) < renyi(alpha)(log_weights)).all()
    assert (renyi(alpha)(log_weights) < iwae(log_weights)).all()


def test_orders_0_and_1_are_the_functions_themselves():
    assert renyi(0) is iwae and renyi(0.0) is iwae
    assert renyi(1) is elbo and renyi(1.0) is elbo
    assert renyi(0.5) == renyi(0.5) != renyi(0.6)
    assert renyi(0.5).__name__ == "renyi(0.5)"


@pytest.mark.parametrize("step", [1e-5, -1e-5])
def test_orders_near_the_limits_are_near_them(step):
    """To first order renyi(1 - s) = elbo + s var / 2, so the distance is of the step's size."""
    log_weights = some_log_weights()
    spread = log_weights.var(0, correction=0)
    near = (renyi(1 - step)(log_weights) - elbo(log_weights)) / step
    torch.testing.assert_close(near, spread / 2, rtol=1e-3, atol=1e-4)
    assert torch.allclose(renyi(step)(log_weights), iwae(log_weights), atol=1e-3)


@pytest.mark.parametrize("alpha", ORDERS)
def test_one_particle_is_its_own_log_weight(alpha):
    log_weights = some_log_weights(K=1)
    torch.testing.assert_close(renyi(alpha)(log_weights), log_weights[0])


@pytest.mark.parametrize("alpha", ORDERS)
def test_constant_log_weights_give_the_constant(alpha):
    torch.testing.assert_close(renyi(alpha)(torch.full((5, 3), -7.25)), torch.full((3,), -7.25))


@pytest.mark.parametrize("alpha", [float("nan"), float("inf"), -float("inf")])
def test_an_order_that_is_not_finite_is_refused(alpha):
    with pytest.raises(ValueError, match=f"alpha must be finite, got {alpha}"):
        renyi(alpha)


@pytest.mark.parametrize("alpha", ORDERS)
def test_gradient_is_the_normalized_weight_to_the_power_1_minus_alpha(alpha):
    log_weights = some_log_weights().requires_grad_()
    (gradient,) = torch.autograd.grad(renyi(alpha)(log_weights).sum(), log_weights)
    torch.testing.assert_close(gradient, ((1 - alpha) * log_weights).softmax(0))


@pytest.mark.parametrize("alpha", ORDERS)
def test_extreme_log_weights_stay_finite(alpha):
    log_weights = torch.tensor([[1e4, -1e4, 1e4], [-1e4, -1e4, 1e4]], requires_grad=True)
    bound = renyi(alpha)(log_weights)
    (gradient,) = torch.autograd.grad(bound.sum(), log_weights)
    assert bound.isfinite().all() and gradient.isfinite().all()
    assert bound[1:].tolist() == pytest.approx([-1e4, 1e4])


def test_a_particle_of_no_weight_leaves_iwae_finite():
    bound = iwae(torch.tensor([[-torch.inf], [0.0]]))
    torch.testing.assert_close(bound, torch.tensor([-math.log(2.0)]))


def test_leading_dimension_is_the_particles_whatever_follows():
    log_weights = torch.randn(4, 2, 3)
    for bound in (elbo, iwae, renyi(0.5)):
        torch.testing.assert_close(bound(log_weights)[1], bound(log_weights[:, 1]))
