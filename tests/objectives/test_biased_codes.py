"""VQ-VAE's rules at codes drawn at random: their slope by hand, what they are in the limits, what they refuse."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import pplvm
from pplvm.distributions.code_categorical import CodeCategorical
from pplvm.distributions.nearest_code import NearestCode, rotation, straight_through
from pplvm.objectives.objective import Loss, ObjectiveError
from pplvm.programs.vq_vae import vq_vae
from tests.problems import Forced

PATHS = {"straight-through": straight_through, "rotation": rotation}
RULES = {"straight-through": pplvm.BiasedCodeStraightThrough, "rotation": pplvm.BiasedCodeRotation}


class Drawn(nn.Module):
    """One code for each datum; log w = f(its vector); the model's prior is the guide held still."""

    def __init__(self, z, codes, temperature, f) -> None:
        super().__init__()
        self.z, self.codes, self.temperature, self.f = nn.Parameter(z), codes, temperature, f

    def model(self, x):
        with pyro.plate("batch", len(x)):
            v = pyro.sample("v", CodeCategorical(self.z.detach(), self.codes, self.temperature))
            pyro.factor("gain", self.f(v @ self.codes))

    def guide(self, x):
        with pyro.plate("batch", len(x)):
            pyro.sample("v", CodeCategorical(self.z, self.codes, self.temperature))


def slope(objective, program, index):
    """The surrogate's slope by z, (B, D), at codes of these indices."""
    x = torch.zeros(len(index), 1)
    with Forced({"v": torch.nn.functional.one_hot(index, len(program.codes)).to(program.codes)}):
        loss = Loss(objective, program)(x)
    return -torch.autograd.grad(loss, program.z)[0] * len(index)


@pytest.mark.parametrize("size, length", [(5, 2), (5, 4), (3, 4)])
@pytest.mark.parametrize("temperature", [0.05, 3.0])
def test_the_slope_by_hand(size, length, temperature):
    """z gets the decoder's slope at the code as it is; of fewer codes than dimensions its part in their span."""
    torch.manual_seed(0)
    codes, w, z = torch.randn(size, length), torch.randn(length), torch.randn(7, length)
    index = torch.arange(7) % size
    program = Drawn(z, codes, temperature, lambda e: (e @ w).sin() + e.square().sum(-1))
    e = codes[index]
    g = (e @ w).cos()[:, None] * w + 2 * e
    seen = g @ codes.T @ torch.linalg.pinv(codes).T
    assert torch.allclose(slope(pplvm.BiasedCodeStraightThrough(), program, index), seen, atol=1e-12)
    assert torch.allclose(seen, g) == (size >= length)
    for g_, z_, e_, found in zip(seen, z, e, slope(pplvm.BiasedCodeRotation(), program, index), strict=True):
        a, b = z_ / z_.norm(), e_ / e_.norm()
        c, s = a @ b, (1 - (a @ b) ** 2).sqrt()  # of the angle; the second direction of the plane:
        n = (b - c * a) / s
        rotated = torch.eye(length) + (c - 1) * (a.outer(a) + n.outer(n)) + s * (n.outer(a) - a.outer(n))
        assert torch.allclose(rotated @ z_ * e_.norm() / z_.norm(), e_, atol=1e-12)
        assert torch.allclose(found, e_.norm() / z_.norm() * rotated.T @ g_, atol=1e-12)


@pytest.mark.parametrize("name", RULES)
def test_a_cold_guide_has_the_gradient_of_the_nearest_code(name):
    """All of it: encoder, codes and decoder, under the elbo of the same program with the deterministic posterior."""
    x, found = torch.bernoulli(torch.full((4, 6), 0.5)), []
    for posterior, objective in (
        ("stochastic", RULES[name]()),
        ({"straight-through": "nearest"}.get(name, name), pplvm.BiasedPathwise()),
    ):
        torch.manual_seed(0)
        program = vq_vae(6, (1, 2), 5, 3, (7,), posterior=posterior, temperature=1e-5)
        program.codebook.gradient = "decoder"
        parts = {n: p for n, p in program.named_parameters() if n != "posterior.log_temperature"}
        found.append(torch.autograd.grad(Loss(objective, program)(x), list(parts.values())))
    for part, cold, point in zip(parts, *found, strict=True):
        assert torch.allclose(cold, point, atol=1e-9) and cold.any(), part


class TwoLevels(nn.Module):
    """A code, and one drawn given it."""

    def __init__(self, posterior) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.posterior, self.codes = posterior, torch.randn(2, 4, 3)
        self.z, self.down, self.w = nn.Parameter(torch.randn(3)), nn.Parameter(torch.randn(3, 3)), torch.randn(2, 3)

    def model(self, x):
        with pyro.plate("batch", len(x)):
            top = pyro.sample("top", dist.OneHotCategorical(logits=torch.zeros(4)))
            bottom = pyro.sample("bottom", dist.OneHotCategorical(logits=torch.zeros(4)))
            both = (top @ self.codes[0]) @ self.w[0] + ((bottom @ self.codes[1]) @ self.w[1]).square()
            pyro.sample("x", dist.Normal(both[..., None], 1.0).to_event(1), obs=x)

    def guide(self, x):
        with pyro.plate("batch", len(x)):
            top = pyro.sample("top", self.posterior(self.z + 0.1 * x, self.codes[0]))
            pyro.sample("bottom", self.posterior((top @ self.codes[0]) @ self.down, self.codes[1]))


@pytest.mark.parametrize("name", RULES)
def test_codes_drawn_given_codes(name):
    x, found = torch.tensor([[0.3], [-0.8]]), []
    for posterior, objective in (
        (lambda z, codes: CodeCategorical(z, codes, 1e-6), RULES[name]()),
        (lambda z, codes: NearestCode(z, codes, PATHS[name]), pplvm.BiasedPathwise()),
    ):
        program = TwoLevels(posterior)
        found.append(torch.autograd.grad(Loss(objective, program)(x), list(program.parameters())))
    assert all(torch.allclose(cold, point, atol=1e-10) and cold.any() for cold, point in zip(*found, strict=True))


def test_softmax_straight_through_has_the_slope_by_the_covariance_of_the_codes():
    torch.manual_seed(0)
    codes, w, z = torch.randn(6, 3), torch.randn(3), torch.randn(4, 3)
    index = torch.tensor([0, 3, 5, 1])
    program = Drawn(z, codes, 0.7, lambda e: (e @ w).sin())
    g = (codes[index] @ w).cos()[:, None] * w
    p = CodeCategorical(z, codes, 0.7).probs
    centred = codes - (p @ codes)[:, None]
    covariance = torch.einsum("bk,bki,bkj->bij", p, centred, centred)
    found = slope(pplvm.BiasedStraightThrough(), program, index)
    assert torch.allclose(found, (covariance @ g[..., None])[..., 0] / 0.7, atol=1e-10)


@pytest.mark.parametrize("r, least, most", [(0.5, 0.05, 0.2), (0.7, 5e-4, 5e-3), (1.0, 0.0, 1e-6)])
def test_on_a_dense_lattice_it_is_the_rule_of_vq_vae(r, least, most):
    """Codes h apart in the plane, r = sqrt(T) / h."""
    h = 0.25
    line = h * torch.arange(-14, 15)
    z = torch.tensor([[0.04, -0.11], [0.125, 0.0], [0.3, 0.21]])
    program = Drawn(z, torch.cartesian_prod(line, line), (r * h) ** 2, lambda e: (2 * e[..., 0] - e[..., 1]).sin())
    index = torch.tensor([420, 421, 391])
    soft, moved = (slope(o, program, index) for o in (pplvm.BiasedStraightThrough(), RULES["straight-through"]()))
    assert least <= float((soft - moved).norm() / moved.norm()) <= most


def test_the_temperature_and_the_entropy_have_no_slope():
    program = vq_vae(6, (1, 2), 5, 3, (7,), posterior="stochastic").double()
    Loss(pplvm.BiasedCodeStraightThrough(), program)(torch.ones(4, 6)).backward()
    assert not program.posterior.log_temperature.grad
    flat = Drawn(torch.randn(3, 2), torch.randn(4, 2), 0.5, lambda e: 0.0 * e.sum(-1))
    assert not slope(pplvm.BiasedCodeStraightThrough(), flat, torch.tensor([0, 1, 2])).any()


def test_a_vector_without_a_direction_turns_nothing():
    codes, index = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.5]]), torch.tensor([0, 1, 2])
    z = torch.tensor([[0.0, 0.0], [0.0, -1.0], [-1.0, 0.5]])  # none, opposite to its code, at its code
    program = Drawn(z, codes, 0.5, lambda e: e.sum(-1))
    found = slope(pplvm.BiasedCodeRotation(), program, index)
    assert found.isfinite().all() and torch.allclose(found[[0, 2]], torch.ones(2, 2))


@pytest.mark.parametrize("make", RULES.values())
def test_sites_that_draw_no_code_are_refused(make):
    with pytest.raises(ObjectiveError, match=r"'z_1' \(Bernoulli\).*no attributes z and codes.*BiasedStraightThrough"):
        Loss(make(), pplvm.SigmoidBeliefNet(4, (2,)))(torch.ones(3, 4))


def test_nearest_codes_are_followed_by_biased_pathwise_alone():
    """Under any other rule the encoder's gradient is the true one, zero: the bound is piecewise constant in it."""
    program = vq_vae(6, (1, 2), 5, 3, (7,)).double()
    x, values, moved = torch.ones(2, 6), [], []
    for objective in (pplvm.BiasedPathwise(), pplvm.LeaveOneOut(num_particles=2), pplvm.BiasedReinMax()):
        program.zero_grad()
        loss = Loss(objective, program)(x)
        loss.backward()
        values.append(float(loss.detach()))
        moved.append(any(p.grad is not None and bool(p.grad.any()) for p in program.encoder.parameters()))
    assert max(values) - min(values) < 1e-12
    assert moved == [True, False, False]
