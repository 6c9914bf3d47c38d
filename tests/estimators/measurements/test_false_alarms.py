"""Verdicts keep their level where gradients have heavy tails; a bias in one coordinate does not pass as unbiased."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from pplvm.bounds import elbo, iwae
from pplvm.estimators.measurements.measurement import Measurement
from pplvm.estimators.measurements.pooled_bias import pooled_bias
from pplvm.estimators.parameters import Parameters
from pplvm.estimators.references.reference import Reference, reference_draws
from pplvm.estimators.replicates.chunks import Dense
from pplvm.estimators.replicates.gradient import Drawn, Gradient
from pplvm.estimators.statistics.bias import BiasTest
from pplvm.estimators.statistics.projection import Projection
from pplvm.objectives.antithetic import ARM, DisARM
from pplvm.objectives.control_variates import REBAR, MuProp
from pplvm.objectives.objective import Loss, Objective
from pplvm.objectives.path_gradients import DoublyReparameterized, StickTheLanding
from pplvm.objectives.pathwise import Pathwise
from pplvm.objectives.score_function import LeaveOneOut, ScoreFunction
from pplvm.programs.sigmoid_belief import SigmoidBeliefNet
from pplvm.programs.vae import VAE
from tests.estimators.finished import finished
from tests.problems import BernoulliToy, exact_gradient, linear_gaussian, sampled_gradients, small_net

LEVEL, REPLICATES, SEEDS = 0.01, 320, 400
BITS, REALS = torch.tensor([[1.0, 0.0, 1.0]]), torch.tensor([[1.0, -1.0, 0.5]])


def saturated(sizes: tuple[int, ...], factor: float, seed: int = 0) -> nn.Module:
    """A belief net whose sigmoids are nearly 0 or 1, so that gradients come from rare draws."""
    net = small_net(sizes, seed=seed)
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(factor)
    return net


def vae() -> nn.Module:
    torch.manual_seed(0)
    return VAE(3, 2, (3,)).double()


PAIRS: dict[str, tuple[Callable[[], nn.Module], Tensor, Callable[[], Objective]]] = {
    "toy, score function": (lambda: BernoulliToy(4.0, -0.5), torch.ones(1, 1), ScoreFunction),
    "net of 2, score function": (lambda: small_net((2,)), BITS, ScoreFunction),
    "net of 3, leave-one-out": (lambda: small_net((3,)), BITS, lambda: LeaveOneOut(elbo, 2)),
    "net of 3, vimco": (lambda: small_net((3,)), BITS, lambda: LeaveOneOut(iwae, 3)),
    "saturated net of 3, score function": (lambda: saturated((3,), 3), BITS, ScoreFunction),
    "saturated net of 3, leave-one-out": (lambda: saturated((3,), 3), BITS, lambda: LeaveOneOut(elbo, 2)),
    "saturated net of 2 and 2, score function": (lambda: saturated((2, 2), 3, 1), BITS, ScoreFunction),
    "saturated net of 2, vimco": (lambda: saturated((2,), 2), BITS, lambda: LeaveOneOut(iwae, 3)),
    "saturated net of 3, REBAR": (lambda: saturated((3,), 2), BITS, REBAR),
    "saturated net of 3, DisARM": (lambda: saturated((3,), 2), BITS, DisARM),
    "saturated net of 3, ARM": (lambda: saturated((3,), 2), BITS, ARM),
    "saturated net of 3, MuProp": (lambda: saturated((3,), 2), BITS, MuProp),
    "Gaussians, stick-the-landing": (linear_gaussian, REALS, StickTheLanding),
    "Gaussians, DReG": (linear_gaussian, REALS, lambda: DoublyReparameterized(iwae, 2)),
    "VAE, pathwise": (vae, BITS, Pathwise),
}


@dataclass(frozen=True)
class Pool:
    """Gradients of one datum (N, P), what their mean should be, and whose they are."""

    gradients: Tensor
    truth: Tensor
    parameters: Parameters

    @classmethod
    def of(cls, name: str, draws: int) -> "Pool":
        build, x, rule = PAIRS[name]
        program, objective, x = build().double(), rule(), x.double()
        torch.manual_seed(0)
        found = sampled_gradients(objective, program, x, draws)
        is_discrete = isinstance(program, BernoulliToy) or "net" in name
        bound = iwae if "vimco" in name else elbo
        particles = objective.num_particles if bound is iwae else 1
        truth = exact_gradient(program, x, bound, particles)[0] if is_discrete else found.mean(0)
        return cls(found, truth, Parameters.of(program, x))

    def test(self, gradients: Tensor, seed: int, level: float = LEVEL) -> BiasTest:
        """What a comparison says of so many replicates (n, P)."""
        reference = Reference(self.truth, torch.zeros_like(self.truth), None, "exact")
        projection = Projection(self.parameters, 3, seed).towards(self.truth)
        measured = Measurement(reference, self.parameters, projection, kept=0)
        chunks = [Dense(part) for part in self.parameters.split(gradients)]
        loss, times = torch.zeros(len(gradients)), [1.0] * len(gradients)
        measured.add(Drawn(loss, Gradient.of(chunks, self.parameters), times), torch.tensor([0]))
        test = pooled_bias([measured], level, level)
        assert test is not None
        return test

    def verdicts(self, replicates: int, seeds: int, change: Callable[[Tensor], Tensor] = lambda g: g) -> Counter[str]:
        parts = self.gradients.split(replicates)[:seeds]
        return Counter(self.test(change(part), seed).verdict for seed, part in enumerate(parts))


@pytest.mark.slow
def test_false_alarms_are_as_rare_as_stated():
    """At level 0.01; before, up to 12 in 100 where sigmoids are saturated."""
    alarms = {}
    for name in PAIRS:
        alarms[name] = Pool.of(name, SEEDS * REPLICATES).verdicts(REPLICATES, SEEDS)["biased"]
    print({name: f"{100 * count / SEEDS:.2f} %" for name, count in alarms.items()})
    assert max(alarms.values()) <= 10, alarms  # 4 expected of 400, and 11 or more in 0.3 % of cases
    assert sum(alarms.values()) <= 1.25 * LEVEL * SEEDS * len(alarms), alarms


def test_saturated_sigmoids_raise_few_alarms():
    """The worst pair in short: of 80 runs 1 expected, and 10 before."""
    pool = Pool.of("saturated net of 3, leave-one-out", 80 * REPLICATES)
    assert pool.verdicts(REPLICATES, 80)["biased"] <= 3


def flipped(pool: Pool, share: float) -> tuple[Callable[[Tensor], Tensor], float]:
    """One coordinate of the guide with its sign changed, of which the bias is nearest to that share of its gradient."""
    guide = pool.truth * pool.parameters.side("guide")
    biases = 2 * guide.abs() / guide.norm()
    place = int((biases - share).abs().argmin())

    def change(gradients: Tensor) -> Tensor:
        signs = torch.ones_like(pool.truth)
        signs[place] = -1
        return gradients * signs

    return change, float(biases[place])


def belief_net_of_digits(draws: int) -> Pool:
    """Leave-one-out gradients (K = 4) of a hundred digits, after some training, beside the exact one."""
    x = torch.tensor(load_digits().images).reshape(-1, 64).gt(7.5).double()
    torch.manual_seed(0)
    net = SigmoidBeliefNet(64, (10,))
    loss = Loss(LeaveOneOut(elbo, 4), net)
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    for rows in torch.randint(len(x), (500, 100)):
        optimizer.zero_grad()
        loss(x[rows]).backward()
        optimizer.step()
    parameters, found = Parameters.of(net, x[:100]), []
    for _ in range(draws):
        optimizer.zero_grad()
        loss(x[:100]).backward()
        found.append(parameters.gradient())
    reference = finished(reference_draws(net, parameters, x[:100], [(elbo, 1)], 1, lambda g: g, pytest.fail))[elbo, 1]
    assert reference is not None and reference.label == "exact"
    return Pool(torch.stack(found), reference.gradient, parameters)


@pytest.mark.slow
def test_one_coordinate_of_the_guide_that_is_flipped_is_not_called_unbiased():
    """A bias of 16 % of the guide's gradient, in a direction that signed sums hardly see: before, 3 of 8 passed."""
    runs, replicates = 8, 480
    pool = belief_net_of_digits(runs * replicates)
    change, share = flipped(pool, 0.16)
    assert 0.15 < share < 0.17
    assert pool.verdicts(replicates, runs, change)["unbiased"] == 0
    right = [pool.test(part, seed) for seed, part in enumerate(pool.gradients.split(replicates))]
    assert sum(test.verdict == "unbiased" for test in right) >= 6
    assert all(0.1 < test.anywhere < 0.35 for test in right)
