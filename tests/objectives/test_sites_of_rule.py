"""Which sites a rule is for, told from structure: where it is for none, gradients are those along paths."""

import pytest
import torch
from pyro.infer import RenyiELBO, Trace_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO

from pplvm.bounds import elbo, iwae
from pplvm.objectives.antithetic import ARM, DisARM
from pplvm.objectives.baselines import MovingAverage
from pplvm.objectives.biased import BiasedConcrete
from pplvm.objectives.biased_codes import BiasedCodeStraightThrough
from pplvm.objectives.biased_reinmax import BiasedReinMax
from pplvm.objectives.control_variates import REBAR
from pplvm.objectives.local_expectation import LocalExpectation
from pplvm.objectives.measure_valued import MeasureValued
from pplvm.objectives.objective import Loss
from pplvm.objectives.path_gradients import StickTheLanding
from pplvm.objectives.pathwise import AnalyticKL, Pathwise
from pplvm.objectives.per_site import PerSite
from pplvm.objectives.pyro_objective import PyroObjective
from pplvm.objectives.score_function import LeaveOneOut, ScoreFunction
from pplvm.objectives.sites_of_rule import is_pathwise_here, learning_sites, pathwise_notice, sites_of_rule
from pplvm.objectives.tempered import Beta, Warmup
from pplvm.programs.vae import VAE
from tests.objectives.test_mixed import Mixed
from tests.objectives.test_sitewise_mixed import Three

K = 3
MANY = {"num_particles": K, "vectorize_particles": True}
REPEATING = {
    "arm": ARM(num_particles=K), "disarm": DisARM(elbo, K), "disarm-iwae": DisARM(iwae, K), "rebar": REBAR(K),
    "concrete": BiasedConcrete(num_particles=K), "reinmax": BiasedReinMax(K), "codes": BiasedCodeStraightThrough(K),
    "per-site": PerSite(num_particles=K),
    "local": LocalExpectation(), "score": ScoreFunction(elbo, K), "rloo": LeaveOneOut(elbo, K),
    "average": ScoreFunction(elbo, K, MovingAverage()), "vimco": LeaveOneOut(iwae, K),
    "beta": Beta(LeaveOneOut(elbo, K), 0.5), "warmup": Warmup(ARM(num_particles=K), 10),
    "pyro": Trace_ELBO(**MANY), "graph": PyroObjective(TraceGraph_ELBO(**MANY)),
}  # fmt: skip
OF_THEIR_OWN = {
    "pathwise": Pathwise(elbo, K), "stl": StickTheLanding(K), "kl": AnalyticKL(K), "measure": MeasureValued(K),
    "renyi": PyroObjective(RenyiELBO(0.0, **MANY)), "mean-field": TraceMeanField_ELBO(**MANY),
    "beta": Beta(Pathwise(elbo, K), 0.5), "named": PerSite({"z": MeasureValued()}, K),
}  # fmt: skip


def vae():
    torch.manual_seed(0)
    return VAE(data_size=8, latent_size=2, hidden_sizes=(5,)), torch.rand(4, 8).round()


def gradient(objective, program, x):
    loss = Loss(objective, program)
    loss(x)  # which is checked
    torch.manual_seed(5)
    found = torch.autograd.grad(loss(x), list(program.parameters()), allow_unused=True)
    return torch.cat([torch.zeros(0) if g is None else g.flatten() for g in found])


@pytest.mark.parametrize("name", REPEATING)
def test_rules_for_no_site_of_a_vae_are_the_pathwise_gradient(name):
    (program, x), rule = vae(), REPEATING[name]
    assert sites_of_rule(rule, learning_sites(program, x)) == [] and is_pathwise_here(rule, learning_sites(program, x))
    if name in ("arm", "rebar", "rloo", "vimco", "disarm", "disarm-iwae", "concrete", "local", "score"):
        plain = Pathwise(rule.bound, rule.num_particles)
        torch.testing.assert_close(gradient(rule, program, x), gradient(plain, program, x))
    assert pathwise_notice(Loss(rule, program), x) in {
        f"no site of this guide uses the rule of {kind}, so it is the pathwise gradient here"
        for kind in (type(rule).__name__, "LeaveOneOut", "ARM", "TraceGraph_ELBO")
    }


@pytest.mark.parametrize("name", OF_THEIR_OWN)
def test_rules_for_sites_with_a_path_are_told_from_the_pathwise_gradient(name):
    (program, x), rule = vae(), OF_THEIR_OWN[name]
    assert not is_pathwise_here(rule, learning_sites(program, x))
    assert pathwise_notice(Loss(rule, program), x) is None
    if name in ("stl", "kl", "measure"):
        assert not torch.allclose(gradient(rule, program, x), gradient(Pathwise(elbo, K), program, x))


@pytest.mark.parametrize(
    "rule, expected",
    [
        (LeaveOneOut(), ["c", "b"]),
        (ARM(), ["c", "b"]),
        (MeasureValued(), ["c", "y", "b"]),
        (PerSite(), ["c", "b"]),
        (Pathwise(), []),
        (StickTheLanding(), ["c", "y", "b"]),
        (TraceGraph_ELBO(), ["c", "b"]),
        (Beta(DisARM(), 2.0), ["c", "b"]),
    ],
)
def test_of_a_mixed_guide_a_rule_takes_the_sites_it_is_for(rule, expected):
    sites = learning_sites(Three(), torch.tensor([0.6, 0.1]))
    assert sites_of_rule(rule, sites) == expected
    assert not is_pathwise_here(rule, sites)


def test_a_rule_that_a_site_names_is_used():
    sites = learning_sites(Three(y=MeasureValued()), torch.tensor([0.6]))
    assert sites_of_rule(ARM(), sites) == ["c", "y", "b"]


def test_sites_that_do_not_learn_use_no_rule():
    program, x = Mixed(), torch.tensor([0.6, -0.3])
    assert sites_of_rule(LeaveOneOut(), learning_sites(program, x)) == ["c"]
    for name in ("a", "b"):
        getattr(program, name).requires_grad_(False)
    assert "c" not in learning_sites(program, x) and is_pathwise_here(LeaveOneOut(), learning_sites(program, x))


def test_looking_leaves_no_trace():
    program, x = vae()
    state = torch.get_rng_state()
    learning_sites(program, x)
    assert torch.equal(state, torch.get_rng_state()) and all(p.grad is None for p in program.parameters())
