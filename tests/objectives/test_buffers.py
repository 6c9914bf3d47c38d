"""A step moves a program's buffers once, in every tier, whatever runs the objective makes; a check moves none."""

import pytest
import torch
from pyro.infer import RenyiELBO, ReweightedWakeSleep, Trace_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO
from torch import Tensor, nn

from pplvm.graphs.compiled import compiled
from pplvm.objectives.objective import Loss
from pplvm.objectives.pyro_objective import PyroObjective
from pplvm.particles.pair import inspect_pair
from pplvm.programs.sigmoid_belief import SigmoidBeliefNet
from pplvm.programs.vae import VAE
from tests.objectives.test_contract import ON_BELIEF_NET, ON_VAE


class Counting:
    """Runs of model and guide in train mode, counted in buffers, and a moving average of the data."""

    def count(self) -> "Counting":
        for name in ("model_runs", "guide_runs"):
            self.register_buffer(name, torch.zeros(()))
        self.register_buffer("average", torch.zeros(8))
        return self

    def model(self, x: Tensor) -> None:
        if self.training:
            self.model_runs.add_(1)
            self.average = 0.9 * self.average + 0.1 * x.mean(0)
        return super().model(x)

    def guide(self, x: Tensor) -> None:
        if self.training:
            self.guide_runs.add_(1)
        return super().guide(x)


class CountingNet(Counting, SigmoidBeliefNet):
    pass


class CountingVAE(Counting, VAE):
    pass


PROGRAMS = {
    name: (build, objective)
    for build, objectives in (
        (lambda: CountingNet(8, (3, 2)).count(), ON_BELIEF_NET),
        (lambda: CountingVAE(8, 2, (5,)).count(), ON_VAE),
    )
    for name, objective in objectives.items()
}
X = (torch.arange(48.0).reshape(6, 8) % 3 > 1).double()


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_step_moves_buffers_once(name):
    build, objective = PROGRAMS[name]
    program, steps = build(), 2
    loss = Loss(objective(), program)
    for _ in range(steps):
        loss(X).backward()
    assert float(program.model_runs) == steps
    assert float(program.guide_runs) == (steps if loss.objective.uses_guide and name != "exact" else 0)
    assert torch.allclose(program.average, (1 - 0.9**steps) * X.mean(0))


@pytest.mark.parametrize("name", ["STL", "REBAR", "local", "wake-sleep", "GDReG", "DReG"])
def test_tiers_move_buffers_alike(name):
    build, objective = PROGRAMS[name]
    torch.manual_seed(0)
    program = build()
    start = {n: b.clone() for n, b in program.state_dict().items()}
    left = []
    for tier in ("off", "graph"):
        program.load_state_dict(start)
        step = compiled(Loss(objective(), program), tier)
        torch.manual_seed(1)
        for _ in range(2):
            step.backward(X)
        assert step.tier_now == tier
        left.append([b.clone() for b in program.buffers()])
    assert all(torch.equal(a, b) for a, b in zip(*left, strict=True))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Trace_ELBO(num_particles=3),
        lambda: Trace_ELBO(num_particles=3, vectorize_particles=True),
        lambda: TraceMeanField_ELBO(num_particles=2),
        lambda: PyroObjective(TraceGraph_ELBO(num_particles=3)),
        lambda: PyroObjective(RenyiELBO(num_particles=3)),
        lambda: PyroObjective(ReweightedWakeSleep(num_particles=3), allow_biased=True),
    ],
)
def test_pyros_own_move_buffers_once_too(make):
    program, steps = CountingVAE(8, 2, (5,)).count(), 2
    loss = Loss(make(), program)
    for _ in range(steps):
        loss(X).backward()
    assert (float(program.model_runs), float(program.guide_runs)) == (steps, steps)


class Normalized(VAE):
    """Batch norm in encoder and decoder."""

    def __init__(self) -> None:
        super().__init__(8, 2, (5,))
        self.encoder = nn.Sequential(nn.Linear(8, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 4))
        self.decoder = nn.Sequential(nn.Linear(2, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 8))


@pytest.mark.parametrize("name", ["pathwise", "analytic", "score on a path"])
def test_batch_norm_moves_once(name):
    program = Normalized()
    objective = ON_VAE[name]()
    objective.num_particles = 1
    loss = Loss(objective, program)
    loss(X).backward()
    hidden = program.encoder[0](X)
    assert torch.allclose(program.encoder[1].running_mean, 0.1 * hidden.mean(0))
    assert [int(each.num_batches_tracked) for each in (program.encoder[1], program.decoder[1])] == [1, 1]


def test_a_check_moves_nothing():
    program = Normalized()
    before = [b.clone() for b in program.buffers()]
    random = torch.get_rng_state()
    modes = [each.training for each in program.modules()]
    inspect_pair(program.model, program.guide, (X,), {})
    assert all(torch.equal(a, b) for a, b in zip(before, program.buffers(), strict=True))
    assert torch.equal(random, torch.get_rng_state())
    assert modes == [each.training for each in program.modules()]
