"""The programs that every library runs, from the same parameters on the same data.

A contestant of any library has three members: `gradient()`, a fresh gradient of minus the elbo per datum in
the order of `program.named_parameters()`, (P,); `step()`, one training step; `settle()`, in which baselines learn.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from benchmarks.contestants import images, seeded
from pplvm.particles.enumeration import enumerate_guide
from pplvm.particles.pair import pair_up
from pplvm.programs.sigmoid_belief import SigmoidBeliefNet

__all__ = ["PROBLEMS", "Problem", "Toy", "belief_net", "exact_gradient", "toy_variances"]

THETA, T = 0.3, 0.1


@dataclass(frozen=True)
class Problem:
    """A program, a batch, and the number of evaluations of the model that an estimator may spend on a datum."""

    build: Callable[[], nn.Module]
    x: Tensor  # (B, D)
    particles: int

    def to(self, device: str) -> "Problem":
        return Problem(lambda: self.build().to(device), self.x.to(device), self.particles)

    @property
    def guide_size(self) -> int:
        """Parameters of the guide, which come last."""
        named = self.build().named_parameters()
        return sum(p.numel() for name, p in named if name.startswith(("encoders", "phi")))


class Toy(nn.Module):
    """b_i ~ Bern(sigmoid(phi_i)), log w = (b_i - t)^2, B times: one gradient holds B independent draws of the same.

    The model's prior is the guide held still, so that nothing else is in the elbo.
    """

    def __init__(self, copies: int, theta: float = THETA, t: float = T) -> None:
        super().__init__()
        self.phi = nn.Parameter(torch.full((copies, 1), theta).logit())  # (B, 1)
        self.t = t

    def model(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            b = pyro.sample("b", dist.Bernoulli(logits=self.phi.detach()).to_event(1))  # (K, B, 1)
            pyro.factor("gain", (b[..., 0] - self.t).square())

    def guide(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            pyro.sample("b", dist.Bernoulli(logits=self.phi).to_event(1))


def toy_variances(K: int, theta: float = THETA, t: float = T) -> dict[str, float]:
    """Variances of the gradient of one datum at K evaluations, by method, in closed form."""
    f1, f0, v, tail = (1 - t) ** 2, t**2, theta * (1 - theta), min(theta, 1 - theta)
    gap = f1 - f0
    pairs = K // 2
    return {
        "expectation": 0.0,
        "score function": (v * ((1 - theta) * f1**2 + theta * f0**2) - v**2 * gap**2) / K,
        "leave-one-out": gap**2 * (v * (1 - 3 * v) - v**2 * (K - 3) / (K - 1)) / K,
        "ARM": gap**2 * (1 / 12 - 2 / 3 * (0.5 - tail) ** 3 - v**2) / pairs,
        "DisARM": gap**2 * tail * (1 - tail) ** 2 * (0.5 - tail) / pairs,
    }


def exact_gradient(program: nn.Module, x: Tensor) -> Tensor:
    """The gradient of minus the elbo per datum, (P,), every state of the latents summed over."""
    log_p, log_q = enumerate_guide(pair_up(program.model, program.guide, (x,), {}), (x,), {})  # (S, B)
    loss = (log_q.exp() * (log_q - log_p)).sum(0).mean()
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(program.parameters()))])


def belief_net(data_size: int, latent_sizes: tuple[int, ...]) -> SigmoidBeliefNet:
    net = SigmoidBeliefNet(data_size, latent_sizes)
    nn.init.normal_(net.prior_logits)  # at logits of zero NumPyro's Bernoulli has a gradient that is 1/2 off
    return net


def _copies(size: int, data_size: int) -> Tensor:
    return images(1)[:, :data_size].expand(size, -1).contiguous()


PROBLEMS: Mapping[str, Problem] = {
    "toy": Problem(lambda: Toy(100), torch.zeros(100, 1), 2),
    "SBN 6-4": Problem(partial(seeded, partial(belief_net, 6, (4,))), _copies(100, 6), 2),
    "SBN 784-200": Problem(partial(seeded, lambda: SigmoidBeliefNet(784, (200,))), images(20), 10),
}
