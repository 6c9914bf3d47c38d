"""The other libraries compute what we do: same method, same variance; skipped where they are not installed."""

from dataclasses import dataclass, replace
from functools import cache, partial

import pyro
import pytest
import torch
from torch.distributions import Distribution

from benchmarks.contestants import by_hand, images, seeded
from benchmarks.handwritten import vae_elbo
from benchmarks.peers import belief_net_step, iwae_step, likelihood, replicates, sampling, vae_step
from benchmarks.peers.agreement import Verdict
from benchmarks.peers.ceilings import Ceilings, Work, count
from benchmarks.peers.measures import draws, threshold, trace_of_covariance, worst_z
from benchmarks.peers.problems import PROBLEMS, Problem, belief_net, exact_gradient, toy_variances
from benchmarks.peers.results import markdown
from benchmarks.peers.tables import Section, Target, measure
from pplvm.programs.pixelcnn_prior import PixelCNNPrior
from pplvm.programs.transformer_prior import TransformerPrior
from pplvm.programs.vae import VAE

LIBRARIES = ("pplvm", "pyro", "storchastic", "numpyro")
TOY, SMALL = PROBLEMS["toy"], PROBLEMS["SBN 6-4"]
SAME = ("score function", "leave-one-out", "ARM", "DisARM", "expectation")
MOST = 4.5
"""Standard errors; 4.5 of them are passed once in 150,000 times."""


@pytest.fixture(autouse=True)
def single_precision(known_state):
    """The libraries as their users run them; Pyro's SVI keeps parameters in its store."""
    torch.set_default_dtype(torch.float32)
    with pyro.get_param_store().scope():
        yield
    torch.set_default_dtype(torch.float64)


def contestants(library, problem):
    """By method, of a library that may be missing."""
    return pytest.importorskip(f"benchmarks.peers.with_{library}").contestants(problem)


def toy_gradients(contestant):
    """Ten thousand draws of the one gradient, (10000, 1), a hundred in a batch."""
    return (draws(contestant, 100) * len(TOY.x)).reshape(-1, 1)


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_toys_variances_are_those_of_the_closed_forms(library):
    exact = toy_variances(TOY.particles)
    built = contestants(library, TOY)
    for method in [name for name in SAME if name in built]:
        variance, error = trace_of_covariance(toy_gradients(built[method]()))
        assert abs(variance - exact[method]) <= MOST * error + 1e-12, (method, variance, exact[method])
        assert error < 0.03 * exact[method] or method == "expectation", method


@pytest.mark.parametrize("library", LIBRARIES)
def test_on_a_net_the_guides_gradient_is_the_exact_one_on_average(library):
    built, guide = contestants(library, SMALL), SMALL.guide_size
    exact = exact_gradient(SMALL.build(), SMALL.x)[-guide:]
    limit = threshold(len(exact), 100)
    for method in [name for name in SAME if name in built and name != "expectation"]:
        gradients = draws(built[method](), 100)[:, -guide:]
        assert worst_z(gradients, exact) < limit, method
        assert worst_z(gradients, 1.5 * exact) > limit, method  # the test has power


@pytest.mark.parametrize("library", LIBRARIES[1:])
def test_on_a_net_the_same_method_has_the_same_variance_as_ours(library):
    theirs, ours = contestants(library, SMALL), contestants("pplvm", SMALL)
    for method in [name for name in SAME if name in theirs and name in ours]:
        variances = [trace_of_covariance(draws(c[method](), 100)[:, -SMALL.guide_size :]) for c in (theirs, ours)]
        (their_variance, their_error), (our_variance, our_error) = variances
        assert abs(their_variance - our_variance) < MOST * (their_error**2 + our_error**2) ** 0.5, method


def test_storchastic_leaves_torch_as_it_was():
    module = pytest.importorskip("benchmarks.peers.with_storchastic")
    before = torch.is_tensor, torch.Tensor.to, torch.Tensor.le, torch.Tensor.gt, Distribution._validate_args
    module.contestants(TOY)["score function"]().step()
    assert before == (torch.is_tensor, torch.Tensor.to, torch.Tensor.le, torch.Tensor.gt, Distribution._validate_args)
    assert type(torch.Tensor.gt).__name__ == "method_descriptor"  # not storchastic's function


TWO_LAYERS = "belief_net_step, two layers"


def tiny(build, K):
    return Problem(partial(seeded, build), images(6)[:, :12].contiguous(), K)


def few_codes(prior, **sizes):
    return sampling.Problem(partial(prior, 5, (2, 3), **sizes), 10)


@cache
def tables():
    """Every section of contestants, at a size at which a step is nothing."""
    wide = Problem(partial(seeded, partial(VAE, 60, 3, (40,))), images(6)[:, :60].contiguous(), 1)  # for factors
    vae, deep = tiny(partial(VAE, 12, 3, (5,)), 1), tiny(partial(VAE, 12, 3, (5, 5), activation="tanh"), 5)
    net, two = tiny(partial(belief_net, 12, (5,)), 4), tiny(partial(belief_net, 12, (5, 4)), 4)
    methods = replicates.methods()
    return {
        "vae_step": vae_step.section("", vae),
        "iwae_step": iwae_step.section("", deep),
        "belief_net_step": belief_net_step.section("", net),
        TWO_LAYERS: belief_net_step.section("", two),
        "replicates, pathwise": replicates.section("", wide, methods["pathwise"]),
        "replicates, score function": replicates.section("", replace(net, particles=1), methods["score function"]),
        "replicates, leave-one-out": replicates.section("", net, methods["leave-one-out"]),
        "likelihood": likelihood.section("", Problem(deep.build, images(60)[:, :12].contiguous(), 100)),
        "sampling, PixelCNN": sampling.section("", few_codes(PixelCNNPrior, channels=8)),
        "sampling, transformer": sampling.section("", few_codes(TransformerPrior, width=8)),
    }


def built(table, name):
    try:
        return tables()[table].contestants[name]()
    except ModuleNotFoundError as error:
        pytest.skip(str(error))
    except RuntimeError as error:  # what cannot be had on this problem
        assert "no factors" in str(error)
        pytest.skip(str(error))


CASES = [(table, name) for table, section in tables().items() for name in section.contestants]
QUICK = [
    (table, name)
    for table, name in CASES
    if not any(word in name for word in ("compiled", "inductor", "vmap, graph", "validation off"))
    and table != TWO_LAYERS
]


@pytest.mark.filterwarnings("ignore:.torch.jit.trace")
@pytest.mark.parametrize(("table", "name"), QUICK)
def test_the_contestants_of_a_table_compute_the_same(table, name):
    verdict = tables()[table].judge(name, built(table, name))
    assert verdict.agrees, verdict.text


@pytest.mark.slow
@pytest.mark.parametrize(("table", "name"), [case for case in CASES if case not in QUICK])
def test_the_other_contestants_compute_the_same(table, name):
    verdict = tables()[table].judge(name, built(table, name))
    assert verdict.agrees, verdict.text


@dataclass
class Wrong:
    """A step by hand of which one thing is changed."""

    gradient_times: float = 1.0
    steps: int = 1

    def __post_init__(self):
        problem = tiny(partial(VAE, 12, 3, (5,)), 1)
        self.right = by_hand(vae_elbo, problem.build(), problem.x, 1)
        self.parameters = self.right.parameters

    def gradient(self):
        torch.rand(1)  # another stream
        return self.gradient_times * self.right.gradient()

    def step(self):
        for _ in range(self.steps):
            self.right.step()


def test_a_step_that_is_wrong_is_seen():
    judge = partial(tables()["vae_step"].judge, "hand-written, eager")
    assert judge(Wrong()).agrees
    assert "standard errors off" in judge(Wrong(gradient_times=2.0)).text
    assert "the loss falls by 0," in judge(Wrong(steps=0)).text
    assert "the loss falls" in judge(Wrong(steps=2)).text


def test_moments_and_likelihoods_that_are_wrong_are_seen():
    section = tables()["replicates, pathwise"]
    right = section.contestants["hand-written loop"]()

    def twice(n):
        found = right.moments(n)
        return replace(found, variance=2 * found.variance)

    assert not section.judge("", replace(right, moments=twice)).agrees
    section = tables()["likelihood"]
    right = section.contestants["hand-written, eager"]()
    assert not section.judge("", likelihood.Pass(lambda: right.step() + 0.5)).agrees


def test_draws_that_are_wrong_are_seen():
    problem = few_codes(PixelCNNPrior, channels=8)
    wrong = sampling.Draws(partial(problem.prior()().at_temperature(2.0).sample, (10,)))
    assert "% of codes the same" in (verdict := sampling.section("", problem).judge("", wrong)).text
    assert not verdict.agrees


@dataclass
class Idle:
    step: object = int


def test_a_table_tells_ratios_targets_and_what_is_left_out(capsys):
    contestants = {
        "slow": lambda: Idle(lambda: sum(range(20000))),
        "fast": Idle,
        "wrong": Idle,
        "missing": lambda: 1 / 0,
    }
    judge = lambda name, contestant: Verdict(name != "wrong", "equal" if name != "wrong" else "off")
    targets = [Target("fast", 0.5, "slow"), Target("slow", 0.5, "fast"), Target("fast", 1.0, None)]
    targets += [Target("wrong", 0.5, "slow"), Target("only on a GPU", 0.5, "slow")]
    result = measure(Section("Sums", contestants, judge, targets), rounds=1)
    assert result.left_out == {"wrong": "off", "missing": "ZeroDivisionError: division by zero"}
    assert [[outcome.met for outcome in row.targets] for row in result.rows] == [[False], [True, True]]
    told = markdown(replace(result, work=Work(10**6, 10**6)), Ceilings(1e9, 1e9))
    assert "<= 0.5 of fast" in told and "**missed**" in told and "Left out: wrong (off)" in told
    assert "Not measured: wrong over slow, 0.5" in told
    assert "missing is left out" in capsys.readouterr().err
    faster = measure(Section("Sums", contestants, judge, [Target("fast", 2.0, "slow")], faster=True), rounds=1)
    assert faster.rows[1].ratio[1] > 1 and faster.rows[1].targets[0].met


def test_work_is_that_of_the_products_and_of_the_optimizer():
    a, b = torch.ones(2, 3), torch.ones(3, 5)
    assert count(lambda: (a @ b).sum()) == Work(2 * 2 * 3 * 5, 4 * (6 + 15 + 10))
    parameter = torch.nn.Parameter(torch.ones(100))
    optimizer = torch.optim.Adam([parameter], fused=True)
    parameter.grad = torch.ones(100)
    assert count(optimizer.step).bytes >= 4 * 4 * 100
