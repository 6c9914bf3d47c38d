"""The bounds against each other, their limits and their gradients."""

import math

import pytest
import torch

from pplvm.bounds import elbo, iwae, jackknife, renyi, renyi_order, tvo

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


PARTITIONS = [2, 5, (0, 0.1, 0.3, 1), (0.0, 1e-6, 1.0)]


@pytest.mark.parametrize("partition", PARTITIONS)
def test_tvo_lies_between_elbo_and_iwae_whatever_the_weights(partition):
    log_weights = some_log_weights()
    assert (elbo(log_weights) < tvo(partition)(log_weights)).all()
    assert (tvo(partition)(log_weights) < iwae(log_weights)).all()


def test_tvo_is_the_thermodynamic_integral_in_the_limit():
    """A left sum of J steps of a rising function f is short of its integral by (f(1) - f(0)) / 2J, to first order."""
    log_weights = some_log_weights()
    rise = (log_weights.softmax(0) * log_weights).sum(0) - elbo(log_weights)
    for J in (400, 800):
        short = iwae(log_weights) - tvo(J)(log_weights)
        torch.testing.assert_close(short * 2 * J / rise, torch.ones(50), rtol=0.02, atol=0.0)


def test_tvo_by_hand_and_by_name():
    log_weights = torch.tensor([[0.0], [math.log(4.0)]])
    by_hand = 0.5 * math.log(2.0) + 0.5 * (2 / 3) * math.log(4.0)
    assert tvo(2)(log_weights).tolist() == pytest.approx([by_hand])
    assert tvo(1) is elbo and tvo((0, 1)) is elbo
    assert tvo(2) == tvo([0, 0.5, 1]) != tvo(4) and hash(tvo(2)) == hash(tvo((0.0, 0.5, 1.0)))
    assert tvo(2).__name__ == "tvo(0, 0.5, 1)"


@pytest.mark.parametrize(
    "bad", [0, -2, (), (0, 0.5), (0.1, 1), (0, 0.5, 0.5, 1), (0, 0.7, 0.3, 1), (0, float("nan"), 1)]
)
def test_a_partition_that_does_not_rise_from_0_to_1_is_refused(bad):
    with pytest.raises(ValueError, match="must rise from 0 to 1"):
        tvo(bad)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_jackknife_takes_out_the_first_powers_of_1_over_k(order, monkeypatch):
    """Where the mean of a bound is a + b/K + c/K^2 + d/K^3, exactly its first `order` powers are gone."""
    from pplvm import bounds

    powers = torch.tensor([3.0, -2.0, 5.0, 7.0])
    expansion = lambda w: (powers * float(len(w)) ** -torch.arange(4.0)).sum().expand(w.shape[1:])
    monkeypatch.setattr(bounds, "iwae", expansion)
    found = [float(jackknife(order)(torch.zeros(K, 1)) - 3.0) for K in (8, 16)]
    if order == 3:
        assert found == pytest.approx([0.0, 0.0], abs=1e-10)
    else:
        assert abs(found[1]) < 0.3 * abs(found[0]) / 2 ** (order - 1) and abs(found[0]) < abs(
            float(expansion(torch.zeros(8, 1)) - 3)
        )


def test_jackknife_by_hand_and_by_name():
    log_weights = some_log_weights(K=3)
    pairs = torch.stack([iwae(log_weights[[1, 2]]), iwae(log_weights[[0, 2]]), iwae(log_weights[[0, 1]])])
    torch.testing.assert_close(jackknife(1)(log_weights), 3 * iwae(log_weights) - 2 * pairs.mean(0))
    second = 4.5 * iwae(log_weights) - 4 * pairs.mean(0) + 0.5 * log_weights.mean(0)
    torch.testing.assert_close(jackknife(2)(log_weights), second)
    assert jackknife(0) is iwae and jackknife() == jackknife(1) != jackknife(2)
    assert jackknife(2).__name__ == "jackknife(2)"
    with pytest.raises(ValueError, match="order 3 needs more than 3 particles, got 3"):
        jackknife(3)(log_weights)
    for bad in (-1, 1.5, True):
        with pytest.raises(ValueError, match="order must be an integer of at least 0"):
            jackknife(bad)


@pytest.mark.parametrize("bound", [tvo(4), jackknife(1), jackknife(2)])
def test_constants_and_further_dimensions(bound):
    torch.testing.assert_close(bound(torch.full((5, 3), -7.25)), torch.full((3,), -7.25))
    log_weights = torch.randn(4, 2, 3)
    torch.testing.assert_close(bound(log_weights)[1], bound(log_weights[:, 1]))


def test_orders_are_read_off_bounds():
    assert [renyi_order(bound) for bound in (elbo, iwae, renyi(0.5), tvo(3), jackknife(1), len)] == [
        1.0,
        0.0,
        0.5,
        None,
        None,
        None,
    ]
