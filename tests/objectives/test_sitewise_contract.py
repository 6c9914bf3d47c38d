"""Site-wise rules at the edges: precision, extreme logits, shapes of sites, batches of one, masks, no gradient."""

import pickle

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pplvm.bounds import elbo, iwae
from pplvm.objectives.antithetic import ARM, ARMS, ARMSRule, DisARM, DisARMRule
from pplvm.objectives.biased import BiasedConcrete, BiasedStraightThrough, BiasedStraightThroughGumbel
from pplvm.objectives.biased_gumbel_rao import BiasedGumbelRao
from pplvm.objectives.biased_reinmax import BiasedReinMax
from pplvm.objectives.control_variates import (
    REBAR,
    RELAX,
    DoubleControlVariate,
    DoubleControlVariateRule,
    MuProp,
    MuPropRule,
    REBARRule,
)
from pplvm.objectives.local_expectation import LocalExpectation
from pplvm.objectives.measure_valued import MeasureValued
from pplvm.objectives.objective import Loss, ObjectiveError
from pplvm.objectives.per_site import PerSite
from pplvm.objectives.site_draw import SiteDraw
from pplvm.objectives.sitewise import Sitewise

RULES = {
    "ARM": lambda: ARM(),
    "DisARM": lambda: DisARM(),
    "DisARM, iwae": lambda: DisARM(iwae, 3),
    "ARMS": lambda: ARMS(3),
    "ARMS, K=3": lambda: ARMS(4, 3),
    "MuProp": lambda: MuProp(),
    "REBAR": lambda: REBAR(),
    "RELAX": lambda: RELAX(num_particles=3),
    "double": lambda: DoubleControlVariate(3, -0.5),
    "measure-valued": lambda: MeasureValued(),
    "local": lambda: LocalExpectation(),
    "straight-through": lambda: BiasedStraightThrough(),
    "straight-through Gumbel": lambda: BiasedStraightThroughGumbel(0.3),
    "Concrete": lambda: BiasedConcrete(0.3),
    "Gumbel-Rao": lambda: BiasedGumbelRao(0.3, 4),
    "ReinMax": lambda: BiasedReinMax(),
    "per site": lambda: PerSite(num_particles=3),
}
ON_ONE_HOT = (
    *("DisARM", "MuProp", "REBAR", "RELAX", "double", "measure-valued", "local", "straight-through", "Concrete"),
    *("Gumbel-Rao", "ReinMax"),
)


class OneSite(nn.Module):
    """One discrete site of any shape; the data are Gaussian around a linear map of it."""

    def __init__(self, logits, family=dist.Bernoulli, mask=False):
        super().__init__()
        self.logits, self.family, self.mask = nn.Parameter(logits.clone()), family, mask
        self.effect = nn.Parameter(torch.linspace(-1, 1, logits.numel()).reshape(logits.shape).to(logits))

    def draw(self, logits):
        fn = self.family(logits=logits)
        fn = fn.to_event(logits.dim() - len(fn.event_shape))
        return pyro.sample("z", fn.mask(torch.tensor(True)) if self.mask else fn)

    def model(self, x):
        with pyro.plate("batch", len(x)):
            z = self.draw(torch.zeros_like(self.logits))
            level = (z * self.effect).sum(tuple(range(-self.effect.dim(), 0))) if self.effect.dim() else z * self.effect
            pyro.sample("x", dist.Normal(level, 1.0), obs=x)

    def guide(self, x):
        with pyro.plate("batch", len(x)):
            self.draw(self.logits)


def gradients(loss, x):
    value = loss(x)
    return value, torch.autograd.grad(value, list(loss.parameters()), allow_unused=True, materialize_grads=True)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 3)])
def test_shapes_of_sites_and_precision(shape, rows, name):
    """A scalar, a vector, an image; one datum or several; float32 stays float32; no gradient is asked for none."""
    torch.manual_seed(3)
    loss = Loss(RULES[name](), OneSite(torch.randn(shape).float())).float()
    x = torch.randn(rows).float()
    value, found = gradients(loss, x)
    assert value.dtype is torch.float32 and all(g.dtype is torch.float32 and g.isfinite().all() for g in found)
    assert loss.program.logits.shape == shape and found[0].shape == shape
    with torch.no_grad():
        assert not loss(x).requires_grad
    assert isinstance(loss.objective.loss(loss.program.model, loss.program.guide, x), float)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("size", [15.0, 40.0, 100.0])
def test_extreme_logits(name, size):
    """In float32, where a sigmoid is 1 already at 17: finite, and as small as the chance of change."""
    loss = Loss(RULES[name](), OneSite(torch.tensor([size, -size, 0.3]).float())).float()
    x = torch.linspace(-1, 1, 500).float()
    value, found = gradients(loss, x)
    assert value.isfinite() and all(g.isfinite().all() for g in found)
    assert found[0][:2].abs().max() < 1e-2 * size


@pytest.mark.parametrize("name", ON_ONE_HOT)
@pytest.mark.parametrize("size", [15.0, 40.0, 100.0])
def test_extreme_logits_of_categories(name, size):
    logits = torch.tensor([[size, -size, 0.0], [0.1, 0.2, -size]]).float()
    loss = Loss(RULES[name](), OneSite(logits, dist.OneHotCategorical)).float()
    value, found = gradients(loss, torch.linspace(-1, 1, 500).float())
    assert value.isfinite() and all(g.isfinite().all() for g in found)


@pytest.mark.parametrize(
    "name", ["ARM", "ARMS", "DisARM", "REBAR", "RELAX", "Concrete", "straight-through Gumbel", "Gumbel-Rao"]
)
@pytest.mark.parametrize("logit", [-40.0, -1.0, 0.0, 40.0])
def test_noise_at_its_ends(name, logit, monkeypatch):
    """The smallest and the largest uniform numbers that float32 knows."""
    for end in (2.0**-25, 1 - 2.0**-24):
        monkeypatch.setattr(SiteDraw, "uniform", lambda self, like, end=end: torch.full_like(like, end))
        loss = Loss(RULES[name](), OneSite(torch.tensor([logit, -logit]).float())).float()
        _, found = gradients(loss, torch.linspace(-1, 1, 50).float())
        assert all(g.isfinite().all() for g in found)


def test_uniform_noise_is_never_zero(monkeypatch):
    """`torch.rand` is zero once in 2^24 draws of float32; the Rayleigh draw of a Gaussian would be infinite."""
    monkeypatch.setattr(torch, "rand_like", torch.zeros_like)
    for dtype in (torch.float32, torch.float64):
        u = SiteDraw.uniform(None, torch.ones(2, dtype=dtype))
        assert (u > 0).all() and (u < torch.finfo(dtype).eps).all()


@pytest.mark.parametrize("name", RULES)
def test_masked_draws_are_refused(name):
    with pytest.raises(ObjectiveError, match=r"'z' \(Bernoulli\) cannot follow this rule: masked draws"):
        Loss(RULES[name](), OneSite(torch.zeros(3), mask=True))(torch.zeros(2))


class PathlessChild(nn.Module):
    """A count drawn given a bit: it has neither a path nor values between its states."""

    def __init__(self):
        super().__init__()
        self.logit, self.rate = nn.Parameter(torch.tensor(0.3)), nn.Parameter(torch.tensor(1.5))

    def model(self, x):
        with pyro.plate("batch", len(x)):
            b = pyro.sample("b", dist.Bernoulli(0.5))
            n = pyro.sample("n", dist.Poisson(1.0 + b))
            pyro.sample("x", dist.Normal(n, 1.0), obs=x)

    def guide(self, x):
        with pyro.plate("batch", len(x)):
            b = pyro.sample("b", dist.Bernoulli(logits=self.logit))
            pyro.sample("n", dist.Poisson(self.rate + b))


@pytest.mark.parametrize("rule", [MuProp(), REBAR(), BiasedStraightThrough()])
def test_a_later_site_without_soft_values_is_refused(rule):
    with pytest.raises(ObjectiveError, match=r"'n' \(Poisson\) is drawn given 'b' at soft values"):
        Loss(PerSite({"b": rule}), PathlessChild())(torch.ones(3))
    for sound in (DisARM(), LocalExpectation(), MeasureValued()):
        assert Loss(PerSite({"b": sound}), PathlessChild())(torch.ones(3)).isfinite()


def test_rules_that_cannot_be_made():
    for make in (lambda: ARMS(1), lambda: ARMS(2.0), lambda: ARMS(True)):
        with pytest.raises(ObjectiveError, match="draws must be an integer of at least 2"):
            make()
    for make in (lambda: REBAR(0.0), lambda: RELAX(temperature=-1.0), lambda: BiasedConcrete(0.0)):
        with pytest.raises(ObjectiveError, match="must be positive"):
            make()
    with pytest.raises(ObjectiveError, match="at least 2, got 1"):
        DoubleControlVariate(1)
    assert DisARM().bound is elbo


@pytest.mark.parametrize(
    "composed, named",
    [
        (lambda: Sitewise(DisARMRule(), iwae, 3), lambda: DisARM(iwae, 3)),
        (lambda: Sitewise(REBARRule(0.3, 0.5), num_particles=2), lambda: REBAR(0.3, 0.5, 2)),
        (lambda: PerSite({"z": DisARMRule()}, 2), lambda: PerSite({"z": DisARM()}, 2)),
        (lambda: pickle.loads(pickle.dumps(Sitewise(ARMSRule(3)))), lambda: ARMS(3)),
    ],
)
def test_a_rule_composed_is_the_objective_of_its_name(composed, named):
    program, x, found = OneSite(torch.tensor([0.3, -0.4])), torch.zeros(3), []
    for make in (composed, named):
        torch.manual_seed(2)
        loss = Loss(make(), program)
        found.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss(x), list(loss.parameters()))]))
    assert torch.equal(*found)


def test_what_is_composed_must_suit():
    with pytest.raises(ObjectiveError, match="Sitewise: 3 is no SiteRule"):
        Sitewise(3)
    with pytest.raises(ObjectiveError, match="num_particles must be at least 2, got 1"):
        Sitewise(DoubleControlVariateRule())
    with pytest.raises(ObjectiveError, match="MuProp: guide site 'z' .* the elbo only, not for iwae"):
        Loss(Sitewise(MuPropRule(), iwae, 2), OneSite(torch.zeros(2)))(torch.zeros(3))
