"""Priors over codes by name: each sums to one, starts as the uniform distribution, and lives in the VQ program."""

import math

import pyro
import pytest
import torch
from pyro import poutine
from torch import nn

from pplvm.bounds import elbo, iwae
from pplvm.evaluation.likelihood import importance_sampled
from pplvm.graphs.compiled import compiled
from pplvm.objectives.antithetic import DisARM
from pplvm.objectives.biased import BiasedPathwise, BiasedStraightThrough
from pplvm.objectives.control_variates import REBAR
from pplvm.objectives.local_expectation import LocalExpectation
from pplvm.objectives.objective import Loss
from pplvm.objectives.score_function import LeaveOneOut
from pplvm.particles.draw import draw_particles
from pplvm.programs.code_priors import NAMED, code_prior_named
from pplvm.programs.transformer_prior import ClassConditionalTransformerPrior, TransformerPrior
from pplvm.programs.vq_vae import vq_vae
from tests.problems import exact_gradient, exact_mean

SMALL = {
    "uniform": {},
    "pixelcnn": {"channels": 8, "kernel_sizes": (3, 3)},
    "transformer": {"width": 8, "num_heads": 2, "num_layers": 2, "dropout": 0.0},
    "absorbing": {"width": 8, "num_heads": 2, "num_layers": 2, "dropout": 0.0},
    "absorbing-exact": {"width": 8, "num_heads": 2, "num_layers": 2, "dropout": 0.0},
}
OF_CLASSES = [name for name, (_, of_classes) in NAMED.items() if of_classes]


def every_grid(N, K):
    return torch.eye(K)[torch.cartesian_prod(*[torch.arange(K)] * N)]  # (K^N, N, K)


def given(prior, *labels, shape=()):
    """The distribution of a prior, at draws of what it needs besides."""
    needed = getattr(prior, "auxiliary", dict)()
    return prior(*labels, **{name: fn.expand(shape).sample() for name, fn in needed.items()})


def awake(prior, std=0.5):
    torch.manual_seed(3)
    for parameter in prior.parameters():
        nn.init.normal_(parameter, std=std)
    return prior.eval()


@pytest.mark.parametrize("name", NAMED)
def test_it_starts_at_n_log_k_nats_and_sums_to_one(name):
    values = every_grid(4, 4)
    prior = code_prior_named(name, (2, 2), 4, **SMALL[name])
    torch.testing.assert_close(
        given(prior.eval()).log_prob(values), torch.full((256,), -4 * math.log(4)), rtol=0, atol=1e-12
    )
    log_prob = given(awake(prior)).log_prob(values).detach()
    assert float(log_prob.exp().sum()) == pytest.approx(1.0, abs=1e-6)
    assert (log_prob.std() > 0.1) == (name != "uniform")


@pytest.mark.parametrize("name", OF_CLASSES)
def test_it_sums_to_one_for_each_class_and_draws_what_it_says(name):
    prior = awake(code_prior_named(name, (2, 2), 2, 3, **SMALL[name]), 0.8)
    values, labels, n = every_grid(4, 2), torch.arange(3), 3000
    fn = given(prior, labels, shape=(3,))
    probability = fn.log_prob(values[:, None]).exp().detach()  # (16, 3)
    torch.testing.assert_close(probability.sum(0), torch.ones(3), rtol=0, atol=1e-6)
    draws = fn.sample((n,))
    assert draws.shape == (n, 3, 4, 2) and not draws.requires_grad
    index = (draws.argmax(-1) * torch.tensor([8, 4, 2, 1])).sum(-1)
    counts = torch.stack([torch.bincount(each, minlength=16) for each in index.unbind(1)], 1)
    error = (probability * (1 - probability) / n).sqrt()
    assert ((counts / n - probability) / error).abs().max() < 4.5
    assert ((counts.roll(1, 1) / n - probability) / error).abs().max() > 4.5, "the classes differ"


@pytest.mark.parametrize("name", OF_CLASSES)
def test_it_stands_in_plates_and_under_particles(name):
    prior = awake(code_prior_named(name, (1, 3), 3, 4, **SMALL[name]))
    labels = torch.tensor([0, 3, 1])

    def model():
        with pyro.plate("batch", 3):
            needed = getattr(prior, "auxiliary", dict)()
            return pyro.sample("codes", prior(labels, **{name: pyro.sample(name, fn) for name, fn in needed.items()}))

    with pyro.plate("particles", 5, dim=-2):
        trace = poutine.trace(model).get_trace()
    trace.compute_log_prob()
    site = trace.nodes["codes"]
    assert site["value"].shape == (5, 3, 3, 3) and site["log_prob"].shape == (5, 3)
    drawn = {name: trace.nodes[name]["value"] for name in getattr(prior, "auxiliary", dict)()}
    assert all(value.shape[:2] == (5, 3) for value in drawn.values())
    one_by_one = [
        prior(labels[i], **{name: value[:, i] for name, value in drawn.items()}).log_prob(site["value"][:, i])
        for i in range(3)
    ]
    torch.testing.assert_close(site["log_prob"], torch.stack(one_by_one, 1))


@pytest.mark.parametrize("name", [name for name in NAMED if name != "uniform"])
def test_it_learns_codes_that_hang_together(name):
    """All positions alike: log 3 nats instead of 4 log 3."""
    torch.manual_seed(0)
    values = torch.eye(3)[torch.arange(3)[:, None].expand(3, 4)]
    prior = code_prior_named(name, (2, 2), 3, **SMALL[name])
    optimizer = torch.optim.Adam(prior.parameters(), 2e-2)
    for _ in range(80):
        optimizer.zero_grad()
        loss = -given(prior, shape=(60,)).log_prob(values.repeat(20, 1, 1)).mean()
        loss.backward()
        optimizer.step()
    held = given(prior.eval())
    assert -float(held.log_prob(values).mean().detach()) == pytest.approx(math.log(3), abs=0.05)
    drawn = held.sample((50,)).argmax(-1)
    assert (drawn == drawn[:, :1]).all(1).double().mean() > 0.9


LEARNED = [name for name in NAMED if name != "uniform"]


def with_prior(name, num_classes=None, posterior="nearest"):
    torch.manual_seed(0)
    program = vq_vae(6, (2, 2), 3, 2, (5,), posterior=posterior)
    program.prior = code_prior_named(name, (2, 2), 3, num_classes, **SMALL[name])
    for parameter in program.parameters():
        nn.init.normal_(parameter, std=0.5)
    return program


X = (torch.arange(24).reshape(4, 6) * 7 % 5 % 2).to(torch.float64)


@pytest.mark.parametrize("name", LEARNED)
@pytest.mark.parametrize("of_graph", ["graph", pytest.param("inductor", marks=pytest.mark.slow)])
def test_eager_and_one_graph_agree(name, of_graph):
    found = {}
    for tier in ("off", of_graph):
        loss = compiled(Loss(BiasedPathwise(elbo, 3), program := with_prior(name)), tier)
        loss(X)
        torch.manual_seed(5)
        value = loss(X.flip(0))
        value.backward()
        assert loss.tier_now == tier
        found[tier] = [value.detach(), *[p.grad for p in program.parameters() if p.grad is not None]]
    torch.testing.assert_close(found["off"], found[of_graph], rtol=1e-10, atol=1e-10)


def test_one_step_trains_the_elbo_alone_and_evaluation_has_all_terms():
    program = with_prior("absorbing")
    with pytest.raises(ValueError, match="itself a random lower bound"):
        Loss(BiasedPathwise(iwae, 3), program)(X)
    exact = Loss(BiasedPathwise(iwae, 3), program.eval())(X)
    assert exact.isfinite()
    Loss(BiasedPathwise(iwae, 3), with_prior("absorbing-exact"))(X).backward()
    every = importance_sampled(program, X, ks=(200,))
    prior = program.prior
    assert (
        every.fault == ""
        and set(prior.auxiliary()) == {"order"}
        and set(prior.train().auxiliary())
        == {
            "order",
            "time",
        }
    )


def test_one_step_has_the_elbo_of_all_terms_as_its_mean():
    program = with_prior("absorbing")
    drawn = [draw_particles(program.model, program.guide, X, num_particles=1500).log_weights for _ in range(2)]
    exact = draw_particles(program.eval().model, program.guide, X, num_particles=1500).log_weights
    steps = torch.cat(drawn)
    error = (steps.var(0) / len(steps) + exact.var(0) / len(exact)).sqrt()
    assert ((steps.mean(0) - exact.mean(0)).abs() < 4.5 * error).all() and (steps.var(0) > exact.var(0)).all()


@pytest.mark.parametrize("name", ["transformer", "absorbing-exact"])
def test_gradients_on_codes_are_unbiased_under_it(name):
    """Over all codes and orders; no rule asks anything of the order, which has no parameters."""
    torch.manual_seed(1)
    program, x = vq_vae(6, (1, 2), 3, 2, (5,), posterior="stochastic"), X[:1]
    program.prior = code_prior_named(name, (1, 2), 3, **SMALL[name])
    for parameter in program.parameters():
        nn.init.normal_(parameter, std=0.5)
    exact, _ = exact_gradient(program, x, elbo, 1)
    for objective in (LeaveOneOut(elbo, 2), LocalExpectation()):
        Loss(objective, program)(X)  # is checked
        torch.testing.assert_close(exact_mean(objective, program, x), exact, atol=1e-10, rtol=0)
    of_iwae, _ = exact_gradient(program, x, iwae, 2)
    torch.testing.assert_close(exact_mean(LeaveOneOut(iwae, 2), program, x), of_iwae, atol=1e-10, rtol=0)
    assert (exact_mean(BiasedStraightThrough(), program, x) - exact).abs().max() > 1e-3
    for objective in (DisARM(), REBAR()):
        Loss(objective, program)(X).backward()


def test_labels_that_are_missing_are_asked_for():
    with pytest.raises(ValueError, match="needs 1 of the data's conditions.*--condition labels"):
        program = with_prior("transformer", 3)
        Loss(BiasedPathwise(elbo), program)(X)
    Loss(BiasedPathwise(elbo), program)(X, torch.tensor([0, 2, 1, 1])).backward()


def test_names_and_labels():
    with pytest.raises(ValueError, match="prior must be 'uniform' or 'pixelcnn' or 'transformer'.*, got 'lstm'"):
        code_prior_named("lstm", (2, 2), 4)
    with pytest.raises(ValueError, match="the 'uniform' prior takes no labels: .* let prior be 'pixelcnn' or"):
        code_prior_named("uniform", (2, 2), 4, 10)


@pytest.mark.parametrize(
    "wrong, told",
    [
        (dict(num_codes=1), "num_codes must be at least 2, got 1"),
        (dict(grid=(2, 0)), "grid must name height and width"),
        (dict(grid=(2, 2, 2)), "height and width"),
        (dict(width=10), "width 10 is no multiple of num_heads 4"),
    ],
)
def test_sizes_of_a_transformer(wrong, told):
    for make, more in ((TransformerPrior, {}), (ClassConditionalTransformerPrior, {"num_classes": 2})):
        with pytest.raises(ValueError, match=told):
            make(**{"num_codes": 3, "grid": (2, 2)} | more | wrong)
    with pytest.raises(ValueError, match="num_classes must be an integer of at least 1"):
        ClassConditionalTransformerPrior(3, (2, 2), 0)
