"""Flows of zuko's as Pyro distributions, and what `import zuko` switches off; skipped where zuko is not installed."""

import subprocess
import sys
import textwrap

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pplvm.bounds import elbo, iwae
from pplvm.distributions.zuko_flow import ZukoFlow, import_zuko
from pplvm.evaluation.likelihood import importance_sampled
from pplvm.graphs.compiled import compiled
from pplvm.networks.dense import MLP
from pplvm.objectives.objective import Loss
from pplvm.objectives.path_gradients import DoublyReparameterized, StickTheLanding
from pplvm.objectives.pathwise import Pathwise
from pplvm.particles.draw import draw_particles
from pplvm.programs.parts import bernoulli
from pplvm.programs.vae import VAE

try:
    zuko = import_zuko()
except ImportError:
    zuko = None

needs_zuko = pytest.mark.skipif(zuko is None, reason="zuko is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:zuko")

Z, C, D, B = 2, 3, 6, 4

FLOWS = {
    "spline": lambda context=0: zuko.flows.NSF(Z, context, bins=4, transforms=2, hidden_features=(8,)),
    "affine": lambda context=0: zuko.flows.MAF(Z, context, transforms=2, hidden_features=(8,)),
    "neural": lambda context=0: zuko.flows.UNAF(
        Z, context, transforms=1, signal=4, hidden_features=(8,), network={"hidden_features": (8,)}
    ),
}

VALIDATED = """
    from torch.distributions import Distribution, Normal
    assert isinstance(Distribution.__dict__["arg_constraints"], property)
    try:
        Distribution.__new__(Distribution).arg_constraints
    except NotImplementedError:
        pass
    else:
        raise SystemExit("arg_constraints of torch's Distribution are no more what they were")
    for module in ("torch", "pyro"):
        try:
            exec(f"import {module}.distributions as d; d.Normal(0.0, -1.0)")
        except ValueError:
            continue
        raise SystemExit(f"{module} takes a negative scale")
    import torch
    flow = ZukoFlow(zuko.flows.NSF(2)())
    flow.log_prob(flow.rsample((3,)).detach())
    Normal(0.0, 1.0)
"""
BEFORE = "import warnings; warnings.simplefilter('error'); warnings.filterwarnings('ignore', module='zuko')\n"


def said(code: str) -> str:
    """What a process of its own says that runs the code and fails, or nothing."""
    found = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
    return "" if found.returncode == 0 else found.stderr


@needs_zuko
@pytest.mark.parametrize("first", ["", "import zuko\n"])
def test_arguments_are_validated_after_zuko_is_imported(first):
    use = "from pplvm.distributions.zuko_flow import ZukoFlow, import_zuko\nzuko = import_zuko()\n"
    assert said(BEFORE + first + use + textwrap.dedent(VALIDATED)) == ""


@needs_zuko
@pytest.mark.slow
def test_without_it_they_are_not():
    assert "no more what they were" in said(
        textwrap.dedent(VALIDATED)
        .replace("import torch\n", "")
        .replace("assert isinstance", "import zuko; isinstance", 1)
    )


@needs_zuko
@pytest.mark.slow
def test_validation_that_was_off_stays_off():
    code = """
        import pyro
        from torch.distributions import Normal
        pyro.enable_validation(False)
        from pplvm.distributions.zuko_flow import import_zuko
        import_zuko()
        Normal(0.0, -1.0)
    """
    assert said(code) == ""


def test_where_zuko_is_missing_one_sentence_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "zuko", None)
    with pytest.raises(ImportError, match=r"ZukoFlow needs zuko, .* pip install 'pplvm\[flows\]'"):
        ZukoFlow(torch.distributions.Normal(0.0, 1.0))


@needs_zuko
def test_a_flow_that_was_not_called_is_refused():
    with pytest.raises(TypeError, match=r"as flow\(\) or flow\(context\), got NSF"):
        ZukoFlow(zuko.flows.NSF(2))


@needs_zuko
@pytest.mark.parametrize("kind", FLOWS)
def test_draws_and_densities(kind):
    flow = FLOWS[kind](C)
    fn = ZukoFlow(flow(torch.randn(B, C)))
    assert fn.batch_shape == (B,) and fn.event_shape == (Z,) and fn.has_rsample
    wide = fn.expand([5, B])
    assert wide.batch_shape == (5, B) and isinstance(wide, ZukoFlow)
    z = wide.rsample((7,))
    assert z.shape == (7, 5, B, Z) and z.requires_grad
    tolerance = 1e-4 if kind == "neural" else 1e-8  # whose inverse is a bisection to 1e-6
    torch.testing.assert_close(wide.log_prob(z), wide.log_prob(z.clone()), rtol=0, atol=tolerance)
    assert wide.log_prob(wide.sample()).requires_grad
    assert fn.to_event(1).event_shape == (B, Z)
    with pyro.plate("particles", 5, dim=-2), pyro.plate("batch", B):
        assert pyro.sample("z", fn).shape == (5, B, Z)
    with pytest.raises(ValueError, match="support"):
        fn.log_prob(torch.full((B, Z), torch.nan))


@needs_zuko
def test_a_flow_that_is_inverted_within_bounds_only():
    """NAF's draws are cut at -10 and 10 the one way round, and right the other."""
    flow, h = zuko.flows.NAF(Z, C, transforms=1, signal=4, hidden_features=(8,)), torch.randn(B, C)
    turned = ZukoFlow(zuko.distributions.NormalizingFlow(flow.transform(h).inv, flow.base(h).expand(h.shape[:-1])))
    z = turned.rsample((50,))
    torch.testing.assert_close(turned.log_prob(z), turned.log_prob(z.clone()), rtol=0, atol=1e-4)
    fn = ZukoFlow(flow(h))
    z = fn.rsample((50,))
    within = (z.abs() < 9.9).all(-1)
    torch.testing.assert_close(fn.log_prob(z)[within], fn.log_prob(z.clone())[within], rtol=0, atol=1e-4)
    assert z.abs().max() <= 10


@needs_zuko
def test_the_density_of_a_draw_costs_no_pass():
    flow = zuko.flows.MAF(4, C, transforms=1, hidden_features=(8,))
    h, calls = torch.randn(B, C), []
    flow.transform.transforms[0].hyper.register_forward_hook(lambda *_: calls.append(1))
    guide = ZukoFlow(zuko.distributions.NormalizingFlow(flow.transform(h).inv, flow.base(h).expand(h.shape[:-1])))
    z = guide.rsample()
    drawn = len(calls)
    guide.log_prob(z)
    assert len(calls) == drawn <= 2
    guide.log_prob(z.clone())
    assert len(calls) >= drawn + 4


@needs_zuko
def test_the_density_integrates_to_one():
    ends = torch.linspace(-9, 9, 801)
    grid = torch.cartesian_prod(ends, ends)
    with torch.no_grad():
        total = ZukoFlow(FLOWS["spline"]()()).log_prob(grid).exp().sum() * (ends[1] - ends[0]) ** 2
    assert total == pytest.approx(1, abs=1e-4)


class Prior(nn.Module):
    def __init__(self, flow):
        super().__init__()
        self.flow = flow

    def forward(self):
        return ZukoFlow(self.flow())


class Posterior(nn.Module):
    """z ~ N(0, I), x | z ~ N(z, s^2 I), under a flow of zuko's as guide, turned so that draws take one pass."""

    S = 0.7

    def __init__(self, flow, turned=True):
        super().__init__()
        self.flow, self.turned, self.network = flow, turned, nn.Linear(2, C)

    def model(self, x):
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, self.S).to_event(1), obs=x)

    def guide(self, x):
        h = self.network(x)
        found = self.flow(h)
        if self.turned:
            found = zuko.distributions.NormalizingFlow(self.flow.transform(h).inv, found.base)
        with pyro.plate("batch", len(x)):
            pyro.sample("z", ZukoFlow(found))


@needs_zuko
@pytest.mark.parametrize("kind", FLOWS)
def test_a_prior_of_a_variational_autoencoder(kind):
    prior = Prior(FLOWS[kind]())
    program = VAE(encoder=MLP(D, 2 * Z), decoder=MLP(Z, D), likelihood=bernoulli, prior=prior)
    x = torch.bernoulli(torch.full((B, D), 0.5))
    for objective in (Pathwise(iwae, 3), StickTheLanding(2)):
        program.zero_grad()
        Loss(objective, program)(x).backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in program.parameters())
    assert draw_particles(program.model, program.guide, x, num_particles=3).log_weights.shape == (3, B)


@needs_zuko
@pytest.mark.parametrize("kind, turned", [("spline", True), ("spline", False), ("affine", True), ("neural", True)])
def test_a_guide_finds_the_evidence_and_takes_path_gradients(kind, turned):
    program, x = Posterior(FLOWS[kind](C), turned), torch.tensor([[0.6, -0.4]])
    truth = dist.Normal(0.0, (1 + program.S**2) ** 0.5).log_prob(x).sum()
    found = importance_sampled(program, x, ks=(3000,))
    assert abs(found.log_p[0, 0] - truth) < 5 * found.error[0, 0] < 0.5
    for objective in (Pathwise(elbo, 2), StickTheLanding(2), DoublyReparameterized(iwae, 2)):
        program.zero_grad()
        Loss(objective, program)(x).backward()
        assert all(p.grad is not None for p in program.flow.parameters())


@needs_zuko
@pytest.mark.parametrize("kind", ["spline", "affine"])
def test_one_graph_gives_the_eager_value(kind):
    program, x = Posterior(FLOWS[kind](C)), torch.randn(B, 2)
    loss, graph = Loss(Pathwise(iwae, 3), program), compiled(Loss(Pathwise(iwae, 3), program), "graph")
    graph(x)
    found = []
    for each in (loss, graph):
        torch.manual_seed(2)
        found.append(each(x).detach())
    torch.testing.assert_close(*found)
