"""What is timed: one training step of a program, by our objectives, by `pyro.infer.SVI` and by hand.

All contestants of a problem start from the same parameters, see the same synthetic batch and use Adam with
the same learning rate.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import count

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, Trace_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from pplvm.bounds import elbo, iwae
from pplvm.objectives.baselines import LearnedBaseline, MovingAverage
from pplvm.objectives.exact import PriorSampling
from pplvm.objectives.local_expectation import LocalExpectation
from pplvm.objectives.objective import Loss
from pplvm.objectives.pathwise import AnalyticKL, Pathwise
from pplvm.objectives.score_function import LeaveOneOut, ScoreFunction
from pplvm.objectives.stopped_guide import DoublyReparameterized, StickTheLanding
from pplvm.programs.sigmoid_belief import SigmoidBeliefNet
from pplvm.programs.vae import VAE

__all__ = [
    "PROBLEMS",
    "BaselinedBeliefNet",
    "Contestant",
    "belief_net_by_hand",
    "belief_net_contestants",
    "by_hand",
    "images",
    "ours",
    "seeded",
    "svi",
    "vae_contestants",
]

D, LEARNING_RATE = 784, 1e-3
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
        halves = [p for name, p in self.program.named_parameters() if not name.startswith("baselines.")]
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in halves]
        return torch.cat([part.flatten() for part in parts]) / self.batch_divisor

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
        "hand-written torch": lambda: by_hand(_vae_by_hand, program(), x, K),
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
        "hand-written torch": lambda: by_hand(belief_net_by_hand, program(), x, K),
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
    return _stepping(loss, program, lambda: loss(x))


def by_hand(loss: Callable[[nn.Module, Tensor, int], Tensor], program: nn.Module, x: Tensor, K: int) -> Contestant:
    return _stepping(program, program, lambda: loss(program, x, K))


def _stepping(trained: nn.Module, program: nn.Module, loss: Callable[[], Tensor]) -> Contestant:
    optimizer = torch.optim.Adam(trained.parameters(), lr=LEARNING_RATE, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    return Contestant(program, step, lambda: loss().backward())


def svi(objective: pyro.infer.ELBO, program: nn.Module, x: Tensor) -> Contestant:
    """Pyro as its tutorials use it: modules registered inside model and guide, default settings."""
    name = f"program {next(_numbers)}"  # two programs of one name would share what Pyro stores under it

    def model(x: Tensor) -> None:
        pyro.module(name, program)
        program.model(x)

    def guide(x: Tensor) -> None:
        pyro.module(name, program)
        program.guide(x)

    trainer = SVI(model, guide, pyro.optim.Adam({"lr": LEARNING_RATE}), loss=objective)
    backward = lambda: trainer.loss_and_grads(model, guide, x)
    return Contestant(program, lambda: trainer.step(x), backward, batch_divisor=len(x))


def _vae_by_hand(vae: VAE, x: Tensor, K: int) -> Tensor:
    """Minus the elbo per datum with the log-densities of z drawn, as in Pathwise(elbo)."""
    loc, log_scale = vae.encoder(x).chunk(2, dim=-1)
    noise = torch.randn(K, *loc.shape)
    z = loc + log_scale.exp() * noise  # (K, B, Z)
    log_ratio = (0.5 * (noise.square() - z.square()) + log_scale).sum()
    logits = vae.decoder(z)
    error = binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="sum")
    return (error - log_ratio) / (K * len(x))


def belief_net_by_hand(net: SigmoidBeliefNet, x: Tensor, K: int) -> Tensor:
    """Leave-one-out of the elbo per datum, written out."""
    below, values, log_q = x - net.centre, [], 0.0
    for encoder in reversed(net.encoders):
        logits = encoder(below).expand(K, len(x), -1)
        z = (torch.rand_like(logits) < logits.sigmoid()).float()
        log_q = log_q + _log_bernoulli(z, logits)  # (K, B)
        values, below = [z, *values], 2 * z - 1
    log_p = _log_bernoulli(values[0], net.prior_logits)
    for decoder, above, data in zip(net.decoders, values, [*values[1:], x], strict=True):
        log_p = log_p + _log_bernoulli(data, decoder(2 * above - 1))
    signal = (log_p - log_q).detach()
    credit = (signal - signal.mean(0)) / (K - 1)
    return -(log_p.mean(0) + (credit * log_q).sum(0)).mean()


def _log_bernoulli(value: Tensor, logits: Tensor) -> Tensor:
    return (value * logits + logsigmoid(-logits)).sum(-1)
