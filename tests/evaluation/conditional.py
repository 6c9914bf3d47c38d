"""Linear Gaussian programs of two classes, whose log p(x | y), log p(x, y) and log p(x) are known.

p(y) = PRIOR,  p(z) = N(0, I),  p(x | z, y) = N(W z + shift_y, s^2 I)
"""

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

PRIOR = torch.tensor([0.3, 0.7], dtype=torch.float64)
W = torch.tensor([[1.0, 0.5], [-0.4, 1.2], [0.3, 0.2]], dtype=torch.float64)
SHIFTS = torch.tensor([[2.0, -1.0, 0.5], [-1.5, 0.5, 3.0]], dtype=torch.float64)
S = 0.7
X = torch.tensor([[1.5, -1.2, 0.3], [-1.0, 1.0, 2.5], [0.2, 0.1, 1.0], [2.5, 0.0, 0.0]], dtype=torch.float64)
Y = torch.tensor([0, 1, 1, 0])


def log_px_given_y(x: Tensor, y: Tensor) -> Tensor:
    covariance = W @ W.T + S**2 * torch.eye(3)
    return torch.distributions.MultivariateNormal(SHIFTS[y], covariance).log_prob(x)


def log_px(x: Tensor) -> Tensor:
    return torch.stack([log_px_given_y(x, torch.tensor([y])) + PRIOR[y].log() for y in (0, 1)]).logsumexp(0)


class Conditional(nn.Module):
    """Given the label, by model and guide; the guide is the posterior, so that each weight is p(x | y)."""

    def __init__(self, spread: float = 1.0) -> None:
        super().__init__()
        self.shift = nn.Parameter(SHIFTS.clone())
        self.covariance = torch.linalg.inv(torch.eye(2) + W.T @ W / S**2)
        self.spread = spread  # of the guide, in units of the posterior's

    def shifted(self, y: Tensor) -> Tensor:
        return self.shift[y]

    def prior_and_likelihood(self, x: Tensor, shift: Tensor) -> None:
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z @ W.T + shift, S).to_event(1), obs=x)

    def posterior(self, x: Tensor, shift: Tensor) -> None:
        loc = (x - shift) @ W @ self.covariance / S**2
        pyro.sample("z", dist.MultivariateNormal(loc, self.covariance * self.spread**2))

    def model(self, x: Tensor, y: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            self.prior_and_likelihood(x, self.shifted(y))

    def guide(self, x: Tensor, y: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            self.posterior(x, self.shifted(y))


class Ignoring(Conditional):
    """Does not look at the label."""

    def shifted(self, y: Tensor) -> Tensor:
        return self.shift.mean(0).expand(*y.shape, -1)


class SemiSupervised(Conditional):
    """Observes the label where it is known, and draws it from its posterior where it is not, -1."""

    def model(self, x: Tensor, y: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            known = pyro.sample("y", dist.Categorical(PRIOR), obs=y.clamp(min=0), obs_mask=y >= 0)
            self.prior_and_likelihood(x, self.shifted(known))

    def guide(self, x: Tensor, y: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            joint = torch.stack([log_px_given_y(x, torch.tensor([c])) + PRIOR[c].log() for c in (0, 1)], -1)
            joint = torch.where((y >= 0).unsqueeze(-1), PRIOR.log(), joint)  # as the model draws what nobody reads
            with pyro.poutine.mask(mask=y < 0):
                drawn = pyro.sample("y_unobserved", dist.Categorical(logits=joint))
            self.posterior(x, self.shifted(torch.where(y >= 0, y, drawn)))


class Masked(SemiSupervised):
    """The same by `poutine.mask` around two sites."""

    def model(self, x: Tensor, y: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            with pyro.poutine.mask(mask=y >= 0):
                pyro.sample("y_seen", dist.Categorical(PRIOR), obs=y.clamp(min=0))
            with pyro.poutine.mask(mask=y < 0):
                drawn = pyro.sample("y_unobserved", dist.Categorical(PRIOR))
            self.prior_and_likelihood(x, self.shifted(torch.where(y >= 0, y, drawn)))
