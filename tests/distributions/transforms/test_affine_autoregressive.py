"""The affine autoregressive flow: Jacobians, inverses, densities, gradients, and what each direction costs."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions.transforms.utils import clamp_preserve_gradients
from torch.func import jacrev, vmap

from pplvm.distributions.transforms.affine_autoregressive import AffineAutoregressive, bounded_scale, sigmoid_gate
from pplvm.networks.masked import MADE

D = 4
ORDER = (2, 0, 3, 1)
AFFINE = {"bounded": bounded_scale, "narrow": lambda: bounded_scale(0.5), "gate": sigmoid_gate}


@pytest.fixture(params=AFFINE)
def affine(request):
    return AFFINE[request.param]()


def network(context_size=0, size=D, order=ORDER):
    made = MADE(size, (9, 6), order=order, context_size=context_size)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(2)  # far from the identity
    return made


def flow(affine=None, **options):
    made = network(**options)
    return AffineAutoregressive(made, made.order, affine=affine)


def distribution(*transforms, batch=()):
    return dist.TransformedDistribution(
        dist.Normal(torch.full((D,), 0.3), 0.8).expand([*batch, D]).to_event(1), [*transforms]
    )


def position(order=ORDER):
    return torch.tensor([order.index(i) for i in range(len(order))])


def test_the_log_determinant_is_that_of_the_jacobian(affine):
    t, x = flow(affine), torch.randn(6, D)
    found = t.log_abs_det_jacobian(x, t(x))
    expected = torch.stack([torch.linalg.slogdet(jacrev(t.forward_and_log_det, has_aux=True)(row)[0])[1] for row in x])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    inverse = torch.stack([torch.linalg.slogdet(jacrev(t.inverse_and_log_det, has_aux=True)(row)[0])[1] for row in x])
    torch.testing.assert_close(t.inv.log_abs_det_jacobian(x, t.inv(x)), inverse, rtol=0, atol=1e-10)


def test_both_directions_keep_to_the_order(affine):
    t, x, before = flow(affine), torch.randn(D), position()
    for one_way in (t.forward_and_log_det, t.inverse_and_log_det):
        slope = jacrev(one_way, has_aux=True)(x)[0]
        outside, inside = before[None, :] > before[:, None], before[None, :] <= before[:, None]
        assert (slope[outside] == 0).all() and (slope[inside] != 0).all()


def test_the_inverse_is_one(affine):
    t, x = flow(affine), torch.randn(3, 5, D)
    y, log_det = t.forward_and_log_det(x)
    back, same = t.inverse_and_log_det(y)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-9)
    torch.testing.assert_close(same, log_det, rtol=0, atol=1e-9)
    torch.testing.assert_close(t.forward_and_log_det(t.inverse_and_log_det(x)[0])[0], x, rtol=0, atol=1e-9)


def test_another_order_is_no_inverse():
    made = network()
    t = AffineAutoregressive(made, ORDER[::-1])
    x = torch.randn(5, D)
    assert (t.inverse_and_log_det(t.forward_and_log_det(x)[0])[0] - x).abs().max() > 1e-2


@pytest.mark.parametrize("side", ["iaf", "maf", "both"])
def test_the_density_of_a_draw_is_that_of_the_same_value(side, affine):
    t, s = flow(affine), flow(affine)
    made = distribution(*{"iaf": (t,), "maf": (t.inv,), "both": (t, s.inv)}[side])
    for draw in (made.rsample, made.sample):
        z = draw((7,))
        torch.testing.assert_close(made.log_prob(z), made.log_prob(z.clone()), rtol=0, atol=1e-9)


@pytest.mark.parametrize("side", ["iaf", "maf"])
def test_a_draw_without_gradient_has_a_density_with_one(side):
    """Pyro's own answers from the pair that it drew without gradients."""
    t = flow()
    made = distribution(t if side == "iaf" else t.inv)
    z = made.sample((7,))
    found = torch.autograd.grad(made.log_prob(z).sum(), list(t.network.parameters()))
    again = torch.autograd.grad(made.log_prob(z.clone()).sum(), list(t.network.parameters()))
    for one, other in zip(found, again, strict=True):
        torch.testing.assert_close(one, other)
    assert sum(each.abs().sum() for each in found) > 1

    theirs = dist.transforms.affine_autoregressive(D, hidden_dims=[9])
    made = distribution(theirs)
    assert not made.log_prob(made.sample((7,))).requires_grad


def test_the_gradient_along_a_draw_is_that_of_a_copy():
    t = flow()
    made = distribution(t)
    found = []
    for copied in (False, True):
        torch.manual_seed(3)
        z = made.rsample((7,))
        log_prob = made.log_prob(z.view_as(z) if copied else z)
        found.append(torch.autograd.grad(log_prob.sum(), list(t.network.parameters())))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("side", ["iaf", "maf"])
def test_the_density_integrates_to_one(side):
    made = MADE(2, (8,), order=(1, 0))
    t = AffineAutoregressive(made, made.order)
    density = dist.TransformedDistribution(
        dist.Normal(torch.zeros(2), 0.7).to_event(1), [t if side == "iaf" else t.inv]
    )
    ends = torch.linspace(-12, 12, 1201)
    grid = torch.cartesian_prod(ends, ends)
    with torch.no_grad():
        total = density.log_prob(grid).exp().sum() * (ends[1] - ends[0]) ** 2
    assert total == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("far", [0.3, 20.0])
def test_the_gradient_of_the_bounded_log_scale_is_its_own(far):
    """Also where it is near its bound, where clamping that passes gradients on would have another."""

    def value(affine):
        def of(a, b):
            loc, log_scale = affine(a, b)
            return (loc + log_scale.exp() * 1.7).sum() + log_scale.sum()

        return of

    numbers = [torch.randn(6).requires_grad_(), (far * torch.linspace(-1, 1, 6)).requires_grad_()]
    for affine in (bounded_scale(2.0), sigmoid_gate(1.0)):
        assert torch.autograd.gradcheck(value(affine), numbers)
    if far > 5:
        with pytest.raises(RuntimeError, match="Jacobian mismatch"):
            torch.autograd.gradcheck(value(lambda a, b: (a, clamp_preserve_gradients(b, -5.0, 3.0))), numbers)


def test_the_bounds_hold_and_zeros_are_the_identity():
    b = torch.linspace(-100, 100, 7)
    assert bounded_scale(2.0)(b, b)[1].abs().max() <= 2
    loc, log_scale = bounded_scale()(torch.zeros(3), torch.zeros(3))
    assert (loc == 0).all() and (log_scale == 0).all()
    loc, log_scale = sigmoid_gate(1.5)(torch.tensor(2.0), torch.tensor(0.0))
    sigma = 1 / (1 + math.exp(-1.5))
    assert log_scale.exp() == pytest.approx(sigma) and loc == pytest.approx(2 * (1 - sigma))


def test_what_each_direction_costs():
    made, calls = network(), []
    count = lambda x: (calls.append(1), made(x))[1]

    def passes(run):
        calls.clear()
        run()
        return len(calls)

    iaf = distribution(AffineAutoregressive(count, ORDER))
    maf = distribution(AffineAutoregressive(count, ORDER).inv)
    z = torch.randn(7, D)
    assert passes(lambda: iaf.log_prob(iaf.rsample((7,)))) == 1
    assert passes(lambda: iaf.log_prob(z)) == D
    assert passes(lambda: maf.log_prob(z)) == 1
    assert passes(lambda: maf.log_prob(maf.rsample((7,)))) == D


def test_a_value_that_is_held_has_the_density_of_the_parameters_of_each_step():
    made = network()
    maf = distribution(AffineAutoregressive(made, ORDER).inv)
    z = torch.randn(7, D)
    maf.log_prob(z).sum().backward()
    maf.log_prob(z).sum().backward()  # no graph is used twice
    before = maf.log_prob(z)
    with torch.no_grad():
        made.last.bias.add_(0.5)
    assert not torch.allclose(maf.log_prob(z), before)


def test_context_and_base_broadcast_and_particles_stand_left():
    made = network(context_size=3)
    context = made.project(torch.randn(5, 3))
    t = AffineAutoregressive(made, ORDER, context)
    fn = distribution(t)  # the base has no batch
    assert fn.batch_shape == (5,) and fn.event_shape == (D,) and fn.has_rsample
    with pyro.plate("particles", 6, dim=-2), pyro.plate("batch", 5):
        z = pyro.sample("z", distribution(AffineAutoregressive(made, ORDER, context)))
    assert z.shape == (6, 5, D)
    wide = fn.expand([6, 5])
    assert wide.batch_shape == (6, 5) and wide.rsample((2,)).shape == (2, 6, 5, D)
    assert fn.log_prob(torch.zeros(D)).shape == (5,)  # one value under each context
    row = distribution(AffineAutoregressive(made, ORDER, context[3]))
    torch.testing.assert_close(fn.log_prob(z)[2, 3], row.log_prob(z[2, 3]))
    nested = distribution(t, batch=(5,)).to_event(1)
    assert nested.batch_shape == () and nested.event_shape == (5, D)
    assert isinstance(fn.support, type(dist.constraints.real_vector)) and fn.support.event_dim == 1


def test_vectorized_over_rows_and_draws():
    t = flow()
    made = distribution(t.inv)
    z = torch.randn(5, D)
    torch.testing.assert_close(vmap(made.log_prob)(z), made.log_prob(z))
    made = distribution(t)
    torch.testing.assert_close(vmap(made.log_prob)(z), made.log_prob(z))
    drawn = lambda x: (lambda y: (y, t.log_abs_det_jacobian(x, y)))(t(x))
    y, log_det = vmap(drawn)(z)
    torch.testing.assert_close(y, t(z))
    torch.testing.assert_close(log_det, t.log_abs_det_jacobian(z, y))


def test_single_precision():
    made = network().float()
    base = dist.Normal(torch.zeros(D, dtype=torch.float32), 1.0).to_event(1)
    for t in (AffineAutoregressive(made, ORDER), AffineAutoregressive(made, ORDER).inv):
        fn = dist.TransformedDistribution(base, [t])
        z = fn.rsample((3,))
        assert z.dtype is fn.log_prob(z).dtype is fn.log_prob(z.clone()).dtype is torch.float32


def test_a_composed_transform_may_ask_for_a_cache():
    parts = [flow(), flow()]
    composed = torch.distributions.ComposeTransform(parts, cache_size=1)
    assert composed.parts == parts
    assert flow().inv.with_cache(1).bijective


@pytest.mark.parametrize("order", [(0, 1, 1), (1, 2, 3), (0, 2)])
def test_an_order_that_is_no_permutation(order):
    with pytest.raises(ValueError, match=r"order must be a permutation of 0 \.\. "):
        AffineAutoregressive(network(), order)


@pytest.mark.parametrize("way", [lambda t: t, lambda t: t.inv])
def test_a_wrong_event_size_is_refused_when_the_distribution_is_made(way):
    with pytest.raises(ValueError, match=r"a flow of 4 coordinates was given values of shape \(3,\)"):
        dist.TransformedDistribution(dist.Normal(torch.zeros(3), 1.0).to_event(1), [way(flow())])


def test_a_context_of_another_batch_is_refused_when_the_distribution_is_made():
    made = network(context_size=3)
    with pytest.raises(ValueError, match=r"the batch shape \(5,\) of the context does not broadcast"):
        distribution(AffineAutoregressive(made, ORDER, made.project(torch.randn(5, 3))), batch=(4,))


def test_a_bound_that_is_none():
    with pytest.raises(ValueError, match="bound must be above 0, got 0"):
        bounded_scale(0)
