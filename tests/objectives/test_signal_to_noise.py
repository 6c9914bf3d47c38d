"""How signal over noise goes with K: as K^(1/2) for the model, as K^(-1/2) for the guide under plain iwae.

On z ~ N(mu, I), x | z ~ N(z, I), q = N(x / 2 + b, 0.8 I), where rows of a batch each have parameters of their own,
so that one backward pass gives the gradient of every row.

References:
    Rainforth, Kosiorek, Le, Maddison, Igl, Wood and Teh, Tighter variational bounds are not necessarily better, 2018,
    arXiv:1802.04537
"""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

from pplvm.bounds import iwae
from pplvm.objectives.path_gradients import DoublyReparameterized, DoublyReparameterizedWakeSleep, StickTheLanding
from pplvm.objectives.pathwise import Pathwise
from pplvm.particles.pair import pair_up

ROWS, PARTICLES, BLOCKS = 40_000, (4, 8, 16, 32), 20


class Shifted(nn.Module):
    """One row of mu and of b per datum, all alike; b is off the posterior by 0.3."""

    def __init__(self) -> None:
        super().__init__()
        self.mu, self.b = nn.Parameter(torch.zeros(ROWS, 1)), nn.Parameter(torch.full((ROWS, 1), 0.3))

    def model(self, x):
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Normal(self.mu, 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    def guide(self, x):
        with pyro.plate("batch", len(x)):
            pyro.sample("z", dist.Normal(x / 2 + self.b, 0.8**0.5).to_event(1))


def signal_to_noise(rows: Tensor) -> Tensor:
    """Freed of what noise adds to a squared mean."""
    return ((rows.mean(0).square() - rows.var(0) / len(rows)).sum() / rows.var(0).sum()).sqrt()


def slope(blocks: list[Tensor]) -> Tensor:
    """Of log signal over noise against log K, by least squares; one tensor of rows for each K."""
    k = torch.tensor(PARTICLES).log()
    k = (k - k.mean()) / (k - k.mean()).square().sum()
    return (k * torch.stack([signal_to_noise(rows) for rows in blocks]).log()).sum()


def interval(rows: list[Tensor]) -> tuple[float, float]:
    """The slope, three standard errors either side, by the jackknife over blocks of rows."""
    parts = [r.chunk(BLOCKS) for r in rows]
    without = torch.stack([slope([torch.cat([*p[:block], *p[block + 1 :]]) for p in parts]) for block in range(BLOCKS)])
    error = ((BLOCKS - 1) * without.var(correction=0)).sqrt()
    return float(slope(rows) - 3 * error), float(slope(rows) + 3 * error)


def gradients(make, repeats: int) -> tuple[list[Tensor], list[Tensor]]:
    """Of mu and of b, (repeats ROWS, 1) each, for every K."""
    torch.manual_seed(0)
    program, x = Shifted(), torch.full((ROWS, 1), 0.8)
    pair = pair_up(program.model, program.guide, (x,), {})
    of_mu, of_b = [], []
    for K in PARTICLES:
        values = (make(K).estimate(pair, x).surrogate.sum() for _ in range(repeats))
        found = [torch.autograd.grad(value, [program.mu, program.b]) for value in values]
        of_mu.append(torch.cat([mu for mu, _ in found]))
        of_b.append(torch.cat([b for _, b in found]))
    return of_mu, of_b


@pytest.mark.parametrize(
    "make, of_guide, repeats",
    [
        (lambda K: Pathwise(iwae, K), -0.5, 6),  # so weak a signal takes more rows
        (lambda K: DoublyReparameterized(iwae, K), 0.5, 1),
        (lambda K: DoublyReparameterizedWakeSleep(K), 0.5, 1),
        (lambda K: StickTheLanding(K), 0.5, 1),
    ],
    ids=["iwae", "DReG", "DReG, wake-sleep", "STL"],
)
def test_slopes(make, of_guide, repeats):
    """The whole interval lies within 0.15 of theory, far from flat; all signals stand well above the floor."""
    for rows, theory in zip(gradients(make, repeats), (0.5, of_guide), strict=True):
        assert min(signal_to_noise(r) for r in rows) > 5 * (repeats * ROWS) ** -0.5
        low, high = interval(rows)
        assert theory - 0.15 < low < high < theory + 0.15, (low, high)
