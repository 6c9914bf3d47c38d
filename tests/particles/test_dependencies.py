"""Which terms a latent can change, and which latents are drawn again with it."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pplvm.bounds import elbo
from pplvm.objectives.antithetic import DisARM
from pplvm.objectives.control_variates import REBAR
from pplvm.objectives.objective import Loss
from pplvm.objectives.score_function import LeaveOneOut, ScoreFunction
from pplvm.particles.dependencies import dependents
from pplvm.particles.pair import pair_up
from tests.problems import exact_gradient, exact_mean, small_net, two_data

X = torch.zeros(3, 1)


def found(model, guide, x=X):
    return dependents(pair_up(model, guide, (x,), {}), (x,), {})


def bit(name, logits=None, rare=False):
    logits = torch.tensor(-30.0 if rare else 0.3) if logits is None else logits
    return pyro.sample(name, dist.Bernoulli(logits=logits))


def model(x):
    with pyro.plate("batch", len(x)):
        a, b = bit("a"), bit("b")
        pyro.sample("x", dist.Normal(a, 1.0), obs=x[:, 0])
        pyro.sample("y", dist.Normal(a * b, 1.0), obs=x[:, 0])


def test_a_chain_of_layers():
    net = small_net((2, 2, 2))
    reached = dependents(pair_up(net.model, net.guide, (two_data(),), {}), (two_data(),), {})
    assert reached["z_3"].redrawn == {"z_2", "z_1"} and reached["z_3"].model == {"x", "z_1", "z_2", "z_3"}
    assert reached["z_1"].redrawn == set() and reached["z_1"].model == {"z_1", "z_2"}
    assert reached["z_2"].guide == {"z_2", "z_1"} and reached["z_2"].model == {"z_1", "z_2", "z_3"}


def test_independent_sites_are_not_drawn_again():
    def guide(x):
        with pyro.plate("batch", len(x)):
            bit("a"), bit("b")

    reached = found(model, guide)
    assert not reached["a"].redrawn and reached["a"].guide == {"a"} and reached["a"].model == {"a", "x", "y"}
    assert not reached["b"].redrawn and reached["b"].guide == {"b"} and reached["b"].model == {"b", "y"}


@pytest.mark.parametrize("rare", [False, True])
@pytest.mark.parametrize("through", ["torch", "numbers"])
def test_what_leaves_torch_is_found_by_changing_the_latent(through, rare):
    """Even a bit that a new draw would hardly ever change."""

    def guide(x):
        with pyro.plate("batch", len(x)):
            a = bit("a", rare=rare)
            bit("b", a - 0.5 if through == "torch" else torch.tensor(a.tolist()) - 0.5)

    reached = found(model, guide)
    assert reached["a"].redrawn == {"b"} and reached["a"].guide == {"a", "b"} and not reached["b"].redrawn


@pytest.mark.parametrize("family", [dist.Categorical, dist.OneHotCategorical])
def test_categories_are_changed_too(family):
    fn = family(torch.ones(3))

    def guide(x):
        with pyro.plate("batch", len(x)):
            c = pyro.sample("c", fn)
            level = c if c.dim() == 1 else c @ torch.arange(3.0)
            pyro.sample("y", dist.Normal(torch.tensor(level.tolist()).double(), 1.0))

    def model(x):
        with pyro.plate("batch", len(x)):
            pyro.sample("c", fn)
            pyro.sample("x", dist.Normal(pyro.sample("y", dist.Normal(0.0, 1.0)), 1.0), obs=x[:, 0])

    reached = found(model, guide)
    assert reached["c"].redrawn == {"y"} and reached["c"].model == {"c", "x", "y"} and reached["y"].model == {"x", "y"}


def test_the_random_state_stays():
    net = small_net()
    before = torch.get_rng_state()
    dependents(pair_up(net.model, net.guide, (two_data(),), {}), (two_data(),), {})
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("how", ["mask", "written", "in place", "a view"])
def test_what_is_written_and_what_masks_are_followed(how):
    """Where the product of two bits that are both zero does not move when one of them is changed."""

    def read(a, b):
        both = torch.zeros(*a.shape, 2)
        if how == "in place":
            both[..., 0].add_(a)
            both[..., 1].copy_(b)
        elif how == "a view":
            left, right = both.unbind(-1)
            left += a
            right += b
        else:
            both[..., 0], both[..., 1] = a, b
        return both.prod(-1)

    def model(x):
        with pyro.plate("batch", len(x)):
            a, b = bit("a", rare=True), bit("b", rare=True)
            if how == "mask":
                with pyro.poutine.mask(mask=a * b > 0):
                    pyro.sample("x", dist.Normal(0.0, 1.0), obs=x[:, 0])
            else:
                pyro.sample("x", dist.Normal(read(a, b), 1.0), obs=x[:, 0])

    def guide(x):
        with pyro.plate("batch", len(x)):
            bit("a", rare=True), bit("b", rare=True)

    reached = found(model, guide)
    assert reached["a"].model == {"a", "x"} and reached["b"].model == {"b", "x"}


class Idle(nn.Module):
    """An auxiliary draw of the guide that nothing reads: what it earns is minus its own log q."""

    def __init__(self):
        super().__init__()
        self.bias, self.encoder, self.idle = (nn.Parameter(torch.tensor(v)) for v in (0.7, -0.4, 1.1))

    def model(self, x):
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Bernoulli(logits=self.bias))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x[:, 0])

    def guide(self, x):
        with pyro.plate("batch", len(x)):
            pyro.sample("z", dist.Bernoulli(logits=self.encoder * x[:, 0]))
            pyro.sample("a", dist.Bernoulli(logits=self.idle), infer={"is_auxiliary": True})


@pytest.mark.parametrize("objective", [LeaveOneOut(elbo, 2), ScoreFunction(elbo, 2), DisARM(), REBAR()], ids=type)
def test_a_latent_that_feeds_nothing_earns_its_entropy(objective):
    program, x = Idle(), torch.tensor([[0.8]])
    truth, _ = exact_gradient(program, x, elbo, 1)
    assert truth.abs().min() > 1e-2
    loss, rows = Loss(objective, program), x.expand(2000, 1)
    loss(x)
    found = torch.stack([torch.cat(gradient(loss, rows, program)) for _ in range(20)])
    assert ((found.mean(0) - truth) / (found.std(0) / 20**0.5).clamp(min=1e-9)).abs().max() < 5
    if not isinstance(objective, DisARM | REBAR):
        assert (exact_mean(objective, program, x) - truth).abs().max() < 1e-10


def gradient(loss, x, program):
    return [-g.reshape(1) for g in torch.autograd.grad(loss(x), list(program.parameters()))]
