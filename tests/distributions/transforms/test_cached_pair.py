"""Every transform of vectors: inverse, log-determinant, leading dimensions, dtypes, vmap, one pass of its network."""

import copy
import pickle
from functools import partial

import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pplvm.distributions.transforms.activation_normalization import ActivationNormalization
from pplvm.distributions.transforms.affine_coupling import AffineCoupling
from pplvm.distributions.transforms.mixture_coupling import MixtureCoupling
from pplvm.distributions.transforms.permutation import Permutation
from pplvm.distributions.transforms.scaled_sigmoid import ScaledSigmoid

D = 5


class Network(nn.Module):
    """A network of a coupling of five coordinates, which counts its passes."""

    def __init__(self, numbers):
        super().__init__()
        self.layers, self.passes = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 3 * numbers)), 0

    def forward(self, a):
        self.passes += 1
        return 2 * self.layers(a)


TRANSFORMS = {
    "affine coupling": lambda: AffineCoupling(Network(2), D),
    "mixture coupling": lambda: MixtureCoupling(Network(11), D, num_components=3),
    "permutation": lambda: Permutation(torch.randperm(D)),
    "activation normalization": lambda: ActivationNormalization(torch.randn(D), torch.randn(D)),
    "sigmoid": lambda: ScaledSigmoid(17.0),
}
BISECTED = {"mixture coupling": 1e-7}


def on(transform, dtype):
    """A transform whose network or tensors have a dtype."""
    for name, held in vars(transform).items():
        if isinstance(held, nn.Module) or (isinstance(held, torch.Tensor) and held.is_floating_point()):
            setattr(transform, name, held.to(dtype))
    return transform


@pytest.fixture(params=TRANSFORMS)
def name(request):
    return request.param


@pytest.mark.parametrize("shape", [(D,), (7, D), (3, 2, D)])
def test_the_inverse_undoes_it(name, shape):
    transform, x = TRANSFORMS[name](), 3 * torch.randn(shape)
    y = transform(x)
    back = transform.inv(y.clone())
    torch.testing.assert_close(back, x, atol=BISECTED.get(name, 1e-9), rtol=0)
    there, again = transform.log_abs_det_jacobian(x.clone(), y), transform.inv.log_abs_det_jacobian(y, back)
    assert there.shape == shape[:-1]
    torch.testing.assert_close(again, -there, atol=1e-7, rtol=1e-9)


def determinant_is_right(transform):
    x = 2 * torch.randn(6, D)
    found = transform.log_abs_det_jacobian(x, transform(x))
    jacobian = torch.stack([torch.autograd.functional.jacobian(lambda v: transform(v), row) for row in x])
    return torch.allclose(found, torch.linalg.slogdet(jacobian)[1], atol=1e-10, rtol=0)


def test_log_det_is_that_of_the_jacobian(name):
    assert determinant_is_right(TRANSFORMS[name]())


def test_a_wrong_log_det_is_seen(monkeypatch):
    """That of a coupling whose log-scale is bounded in the value only."""
    coupling = AffineCoupling(Network(2), D)
    right = coupling.forward_and_log_det

    def wrong(x):
        raw = coupling.network(x[..., :2]).unflatten(-1, (2, 3))[..., 1, :]
        return right(x)[0], raw.sum(-1)

    monkeypatch.setattr(coupling, "forward_and_log_det", wrong)
    assert not determinant_is_right(coupling)


def test_log_det_of_the_inverse_direction(name):
    transform, y = TRANSFORMS[name](), torch.rand(6, D) * 16 + 0.3
    x = transform.inv(y)
    found = transform.log_abs_det_jacobian(x, y)
    jacobian = torch.stack([torch.autograd.functional.jacobian(lambda v: transform.inv(v), row) for row in y])
    torch.testing.assert_close(found, -torch.linalg.slogdet(jacobian)[1], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("kind", ["affine coupling", "mixture coupling"])
def test_a_draw_and_its_density_run_the_network_once(kind):
    transform = TRANSFORMS[kind]()
    for each in (transform, transform.inv):
        fn = dist.TransformedDistribution(dist.Normal(torch.zeros(4, D), 1.0).to_event(1), [each])
        before = transform.network.passes
        z = fn.rsample()
        of_own = fn.log_prob(z)
        assert transform.network.passes == before + 1
        torch.testing.assert_close(fn.log_prob(z.clone()), of_own, atol=1e-9, rtol=0)
        assert transform.network.passes > before + 1


@pytest.mark.parametrize("kind", ["affine coupling", "mixture coupling"])
def test_draws_without_gradient_have_densities_with_gradient(kind):
    transform = TRANSFORMS[kind]()
    fn = dist.TransformedDistribution(dist.Normal(torch.zeros(4, D), 1.0).to_event(1), [transform])
    z = fn.sample()
    parameters = list(transform.network.parameters())
    own = torch.autograd.grad(fn.log_prob(z).sum(), parameters)
    cloned = torch.autograd.grad(fn.log_prob(z.clone()).sum(), parameters)
    for one, other in zip(own, cloned, strict=True):
        assert one.abs().sum() > 0
        torch.testing.assert_close(one, other)


def closure(network):
    return lambda a: network(a)


@pytest.mark.parametrize("bind", [lambda f: f, partial, closure, lambda f: f.forward], ids=["module", *"pcm"])
@pytest.mark.parametrize("turn", [lambda t: t, lambda t: t.inv], ids=["forward", "inverse"])
@pytest.mark.parametrize("with_graph", [False, True])
def test_a_draw_that_is_held_has_the_density_of_the_parameters_of_each_step(bind, turn, with_graph):
    network = Network(2)
    base = dist.Normal(torch.zeros(4, D), 1.0).to_event(1)
    fn = dist.TransformedDistribution(base, [turn(AffineCoupling(bind(network), D))])
    with torch.set_grad_enabled(with_graph):
        z = fn.rsample()
        before = fn.log_prob(z)
        with torch.no_grad():
            network.layers[-1].bias.add_(0.5)
        found = fn.log_prob(z)
    torch.testing.assert_close(found, fn.log_prob(z.detach().clone()))
    assert not torch.allclose(found, before)


def test_a_context_that_is_replaced_in_place_is_seen():
    transform = TRANSFORMS["activation normalization"]()
    with torch.no_grad():
        x = torch.randn(3, D)
        y = transform(x)
        transform.loc.add_(1.0)
        assert not torch.allclose(transform.inv(y), x)


def test_without_steps_between_a_pair_is_kept_in_inference_mode_too():
    with torch.inference_mode():
        transform = AffineCoupling(Network(2), D)
        x = torch.randn(3, D)
        assert transform.inv(transform(x)) is x and transform.network.passes == 1


def test_a_copy_holds_no_pair(name):
    transform, x = TRANSFORMS[name](), torch.randn(4, D, requires_grad=True)
    y = transform(x)
    for copied in (copy.deepcopy(transform), pickle.loads(pickle.dumps(transform))):
        assert copied._pair is None
        torch.testing.assert_close(copied(x), y)


def test_float32_stays_float32(name):
    transform = on(TRANSFORMS[name](), torch.float32)
    x = torch.randn(4, D, dtype=torch.float32)
    y = transform(x)
    assert y.dtype is transform.log_abs_det_jacobian(x, y).dtype is transform.inv(y.clone()).dtype is torch.float32
    torch.testing.assert_close(transform.inv(y.clone()), x, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_vmap(name, direction):
    transform, value = TRANSFORMS[name](), torch.rand(6, 3, D) * 16 + 0.3
    each = (lambda: transform) if direction == "forward" else (lambda: transform.inv)

    def run(v):
        return each()(v), each().log_abs_det_jacobian(v, each()(v))

    for one, other in zip(torch.func.vmap(run)(value), run(value.clone()), strict=True):
        torch.testing.assert_close(one, other)


def test_vectors_of_another_size_are_refused(name):
    if name != "sigmoid":
        with pytest.raises(ValueError, match="transforms vectors of 5, and got shape \\(2, 4\\): give the flow"):
            TRANSFORMS[name]()(torch.zeros(2, 4))
