"""What is timed: one training step of a program, by our objectives, by `pyro.infer.SVI` and by hand.

All contestants of a problem start from the same parameters, see the same synthetic batch and use Adam with
the same learning rate.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import Literal

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, Trace_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO
from torch import Tensor, nn

from benchmarks.handwritten import draw, net_leave_one_out, vae_elbo
from pplvm.bounds import elbo, iwae
from pplvm.objectives.baselines import LearnedBaseline, MovingAverage
from pplvm.objectives.exact import PriorSampling
from pplvm.objectives.local_expectation import LocalExpectation
from pplvm.objectives.objective import Loss
from pplvm.objectives.path_gradients import DoublyReparameterized, StickTheLanding
from pplvm.objectives.pathwise import AnalyticKL, Pathwise
from pplvm.objectives.score_function import LeaveOneOut, ScoreFunction
from pplvm.programs.sigmoid_belief import SigmoidBeliefNet
from pplvm.programs.vae import VAE

__all__ = [
    "PROBLEMS",
    "BaselinedBeliefNet",
    "ByHand",
    "Contestant",
    "belief_net_contestants",
    "by_hand",
    "captured",
    "compiled_by_hand",
    "images",
    "in_tier",
    "ours",
    "seeded",
    "svi",
    "vae_contestants",
]

D, LEARNING_RATE = 784, 1e-3
ByHand = Callable[[nn.Module, Tensor, list[Tensor]], Tensor]
"""The loss of a program on a batch, given the noise."""
_numbers = count()


@dataclass(frozen=True)
class Contestant:
    """A program, one training step of it, and one gradient of minus the bound per datum, left in `.grad`."""

    program: nn.Module
    step: Callable[[], object]
    backward: Callable[[], object]
    batch_divisor: int = 1  # what the gradient must be divided by to be that of a mean over data

    def gradient(self) -> Tensor:
        """A fresh gradient, (P,), per datum."""
        self.program.zero_grad()
        self.backward()
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in self._halves]
        return torch.cat([part.flatten() for part in parts]) / self.batch_divisor

    def parameters(self) -> Tensor:
        """Of model and guide as they are now, (P,)."""
        return torch.cat([p.detach().flatten() for p in self._halves])

    @property
    def _halves(self) -> list[nn.Parameter]:
        return [p for name, p in self.program.named_parameters() if not name.startswith("baselines.")]

    def settle(self, steps: int = 20) -> None:
        """Let baselines learn while the program stands still."""
        initial = {name: value.clone() for name, value in self.program.state_dict().items()}
        for _ in range(steps):
            self.step()
            self.program.load_state_dict(initial)

    def variance(self, replicates: int = 30) -> float:
        """The trace of the gradient's covariance at the initial parameters, after baselines have settled."""
        self.settle()
        total, squares = 0.0, 0.0
        for _ in range(replicates):
            gradient = self.gradient().double()
            total, squares = total + gradient, squares + gradient.square()
        return float((squares - total.square() / replicates).sum() / (replicates - 1))


def vae_contestants(K: int = 1) -> dict[str, Callable[[], Contestant]]:
    """784-400-50-400-784, Bernoulli, batch 128; each value builds its contestant."""
    program = partial(seeded, lambda: VAE(D, 50, (400,)))
    x = images(128)
    many = {
        "Pathwise(iwae)": lambda: ours(Pathwise(iwae, K), program(), x),
        "DoublyReparameterized": lambda: ours(DoublyReparameterized(iwae, K), program(), x),
    }
    return {
        "hand-written torch": lambda: by_hand(vae_elbo, program(), x, K),
        "Pathwise(elbo)": lambda: ours(Pathwise(elbo, K), program(), x),
        "AnalyticKL": lambda: ours(AnalyticKL(K), program(), x),
        "StickTheLanding": lambda: ours(StickTheLanding(K), program(), x),
        **(many if K > 1 else {}),
        "pyro SVI Trace_ELBO": lambda: svi(Trace_ELBO(**_vectorized(K)), program(), x),
        "pyro SVI TraceMeanField_ELBO": lambda: svi(TraceMeanField_ELBO(**_vectorized(K)), program(), x),
    }


def belief_net_contestants(layers: int, K: int) -> dict[str, Callable[[], Contestant]]:
    """784-200 or 784-200-200, linear, batch 20; each value builds its contestant."""
    program = partial(seeded, lambda: SigmoidBeliefNet(D, [200] * layers))
    x = images(20)
    rivals = {
        "ScoreFunction": lambda: ours(ScoreFunction(elbo, K), program(), x),
        "ScoreFunction, moving average": lambda: ours(ScoreFunction(elbo, K, MovingAverage()), program(), x),
        "ScoreFunction, learned": lambda: ours(ScoreFunction(elbo, K, LearnedBaseline(D)), program(), x),
        "LeaveOneOut(iwae)": lambda: ours(LeaveOneOut(iwae, K), program(), x),
        "PriorSampling": lambda: ours(PriorSampling(K), program(), x),
        "LocalExpectation (K = 1)": lambda: ours(LocalExpectation(), program(), x),
        "pyro SVI Trace_ELBO": lambda: svi(Trace_ELBO(**_vectorized(K)), program(), x),
    }
    return {
        "hand-written torch": lambda: by_hand(net_leave_one_out, program(), x, K),
        "LeaveOneOut(elbo)": lambda: ours(LeaveOneOut(elbo, K), program(), x),
        **(rivals if layers == 1 else {}),
        "pyro SVI TraceGraph_ELBO, neural baseline": lambda: svi(
            TraceGraph_ELBO(**_vectorized(K)), seeded(lambda: BaselinedBeliefNet(D, [200] * layers, K)), x
        ),
    }


PROBLEMS: Mapping[str, Callable[[], dict[str, Callable[[], Contestant]]]] = {
    "VAE 784-400-50, B=128, K=1": partial(vae_contestants, 1),
    "VAE 784-400-50, B=128, K=5": partial(vae_contestants, 5),
    "SBN 784-200, B=20, K=10": partial(belief_net_contestants, 1, 10),
    "SBN 784-200-200, B=20, K=50": partial(belief_net_contestants, 2, 50),
}


class BaselinedBeliefNet(SigmoidBeliefNet):
    """The same net for TraceGraph_ELBO, with a baseline network of the data at every site."""

    def __init__(self, data_size: int, latent_sizes: list[int], K: int) -> None:
        super().__init__(data_size, latent_sizes)
        self.baselines = nn.ModuleList(BaselineNetwork(data_size, K) for _ in latent_sizes)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            below = x - self.centre
            for layer, encoder in reversed(list(enumerate(self.encoders, start=1))):
                baseline = {"nn_baseline": self.baselines[layer - 1], "nn_baseline_input": x}
                q = dist.Bernoulli(logits=encoder(below)).to_event(1)
                z = pyro.sample(f"z_{layer}", q, infer={"baseline": baseline})  # (K, B, Z)
                below = 2 * z - 1


class BaselineNetwork(nn.Module):
    """The network of `LearnedBaseline`, as Pyro takes it: x (B, D) -> (K, B)."""

    def __init__(self, data_size: int, K: int) -> None:
        super().__init__()
        self.network, self.K = LearnedBaseline(data_size).network, K

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x).squeeze(-1).expand(self.K, -1)


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return build()


def images(size: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return (torch.rand(size, D, generator=generator) < 0.3).float()


def _vectorized(K: int) -> dict[str, int | bool]:
    """Pyro's defaults for one particle; vectorized, as its documentation advises, for several."""
    return {} if K == 1 else {"num_particles": K, "vectorize_particles": True, "max_plate_nesting": 1}


def ours(objective: pyro.infer.ELBO, program: nn.Module, x: Tensor) -> Contestant:
    loss = Loss(objective, program)
    return _stepping(loss, program, lambda: loss(x).backward())


def in_tier(
    tier: Literal["graph", "inductor"], objective: pyro.infer.ELBO, program: nn.Module, x: Tensor
) -> Contestant:
    """The same through one graph: "graph" replays it as traced, "inductor" compiles it.

    Raises:
        RuntimeError: it had to fall back to another tier.
    """
    from pplvm.graphs.compiled import compiled

    loss = Loss(objective, program)
    graph = compiled(loss, tier)
    graph.backward(x)
    if graph.tier_now != tier:
        raise RuntimeError(f"asked for {tier!r}, runs as {graph.tier_now!r}")
    return _stepping(loss, program, lambda: graph.backward(x))


def by_hand(loss: ByHand, program: nn.Module, x: Tensor, K: int) -> Contestant:
    return _stepping(program, program, lambda: loss(program, x, draw(program, x, K)).backward())


def compiled_by_hand(loss: ByHand, program: nn.Module, x: Tensor, K: int, noise_inside: bool = False) -> Contestant:
    """By `torch.compile`, which on a CPU draws slower than torch does: `noise_inside` leaves that to it."""
    if noise_inside:
        whole = torch.compile(lambda x: loss(program, x, draw(program, x, K)), fullgraph=True, dynamic=False)
        return _stepping(program, program, lambda: whole(x).backward())
    rest = torch.compile(loss, fullgraph=True, dynamic=False)
    return _stepping(program, program, lambda: rest(program, x, draw(program, x, K)).backward())


def _stepping(trained: nn.Module, program: nn.Module, backward: Callable[[], object]) -> Contestant:
    on_cuda = next(program.parameters()).is_cuda
    optimizer = torch.optim.Adam(trained.parameters(), lr=LEARNING_RATE, fused=True, capturable=on_cuda)

    def step() -> None:
        optimizer.zero_grad()
        backward()
        optimizer.step()

    return Contestant(program, step, backward)


def captured(contestant: Contestant) -> Contestant:
    """The whole step, noise and optimizer included, as one CUDA graph; Adam keeps the moments of the warm-up."""
    initial = {name: value.clone() for name, value in contestant.program.state_dict().items()}
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            contestant.step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        contestant.step()
    contestant.program.load_state_dict(initial)
    return replace(contestant, step=graph.replay)


def svi(objective: pyro.infer.ELBO, program: nn.Module, x: Tensor, validate: bool = True) -> Contestant:
    """Pyro as its tutorials use it: modules registered inside model and guide, default settings."""
    name = f"program {next(_numbers)}"  # two programs of one name would share what Pyro stores under it

    def model(x: Tensor) -> None:
        pyro.module(name, program)
        program.model(x)

    def guide(x: Tensor) -> None:
        pyro.module(name, program)
        program.guide(x)

    trainer = SVI(model, guide, pyro.optim.Adam({"lr": LEARNING_RATE}), loss=objective)
    step, backward = lambda: trainer.step(x), lambda: trainer.loss_and_grads(model, guide, x)
    return Contestant(
        program, step if validate else pyro.validation_enabled(False)(step), backward, batch_divisor=len(x)
    )
