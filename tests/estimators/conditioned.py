"""Tiny programs with conditions, and their elbos by hand: labels that are given, and labels known for some data."""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor, nn

STATES = torch.cartesian_prod(torch.arange(2.0), torch.arange(2.0))  # (4, 2), of two bits
CLASSES = 3


class Labelled(nn.Module):
    """Two bits tell three pixels; prior, pixels and guide know the class of a datum."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        for name, shape in {
            "prior": (CLASSES, 2), "shift": (CLASSES, 3), "lift": (CLASSES, 2), "down": (2, 3), "up": (3, 2),
        }.items():  # fmt: skip
            setattr(self, name, nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64)))

    def model(self, x: Tensor, y: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            self.given_class(x, y)

    def given_class(self, x: Tensor, y: Tensor) -> None:
        z = pyro.sample("z", dist.Bernoulli(logits=self.prior[y]).to_event(1))
        pyro.sample("x", dist.Bernoulli(logits=z @ self.down + self.shift[y]).to_event(1), obs=x)

    def guide(self, x: Tensor, y: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            pyro.sample("z", dist.Bernoulli(logits=x @ self.up + self.lift[y]).to_event(1))

    def elbo(self, x: Tensor, y: Tensor) -> Tensor:
        """(B,), every state by hand."""
        z = STATES.double().unsqueeze(1)  # (4, 1, 2)
        log_q = log_bernoulli(z, x @ self.up + self.lift[y])  # (4, B)
        log_p = log_bernoulli(z, self.prior[y]) + log_bernoulli(x, z @ self.down + self.shift[y])
        return (log_q.exp() * (log_p - log_q)).sum(0)


class SemiSupervised(Labelled):
    """The class is observed where it is known, and a latent of the guide where it is -1."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(6)
        self.classes = nn.Parameter(torch.randn(CLASSES, generator=generator, dtype=torch.float64))
        self.classify = nn.Parameter(torch.randn(3, CLASSES, generator=generator, dtype=torch.float64))

    def model(self, x: Tensor, y: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            prior = dist.Categorical(logits=self.classes)
            self.given_class(x, pyro.sample("y", prior, obs=y.clamp(min=0), obs_mask=y >= 0))

    def guide(self, x: Tensor, y: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            with poutine.mask(mask=y < 0):
                guessed = pyro.sample("y_unobserved", dist.Categorical(logits=x @ self.classify))
            known = torch.where(y < 0, guessed, y)
            pyro.sample("z", dist.Bernoulli(logits=x @ self.up + self.lift[known]).to_event(1))

    def elbo(self, x: Tensor, y: Tensor) -> Tensor:
        """(B,): of x and y where y is known, of x where it is not."""
        log_prior, log_guess = self.classes.log_softmax(0), (x @ self.classify).log_softmax(1)  # (C,), (B, C)
        given = torch.stack([super(SemiSupervised, self).elbo(x, torch.full_like(y, c)) for c in range(CLASSES)], 1)
        joint = given + log_prior  # (B, C)
        guessed = (log_guess.exp() * (joint - log_guess)).sum(1)
        return torch.where(y < 0, guessed, joint.gather(1, y.clamp(min=0).unsqueeze(1)).squeeze(1))


def log_bernoulli(value: Tensor, logits: Tensor) -> Tensor:
    """Summed over the last dimension."""
    return (value * logits - nn.functional.softplus(logits)).sum(-1)


def data(unknown: bool = False) -> tuple[Tensor, Tensor]:
    """Six data (6, 3) and their classes (6,), two of them -1 if some are unknown."""
    x = (torch.rand(6, 3, generator=torch.Generator().manual_seed(1)) < 0.5).double()
    y = torch.tensor([0, 1, 2, 2, 1, 0])
    return x, torch.where(torch.tensor([0, 1, 0, 0, 1, 0]) == 1, -1, y) if unknown else y


PROGRAMS = {"conditional": (Labelled, data()), "semi-supervised": (SemiSupervised, data(unknown=True))}
