"""Active units: the coordinates of the latents whose posterior means vary over the data.

active: Var_x(E_q[z_d | x]) > 0.01
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributions import Categorical

from pplvm.batch import Batch, as_tuple
from pplvm.evaluation.figures import Figure
from pplvm.evaluation.per_datum import MOST_AT_ONCE, Seed, chunks, each_datum, evaluation_mode
from pplvm.particles.contract import Site, latents
from pplvm.particles.drawn_alike import is_drawn_alike
from pplvm.particles.enumeration import coordinates
from pplvm.particles.pair import Pair

__all__ = ["ActiveUnits", "active_units"]


@dataclass(frozen=True)
class ActiveUnits:
    """Posterior means of every unit from two independent halves of the draws; (N, Z) each, float64."""

    first: dict[str, Tensor]
    second: dict[str, Tensor]
    num_particles: int
    threshold: float

    @property
    def means(self) -> dict[str, Tensor]:
        """Posterior means over all draws, (N, Z)."""
        return {name: (self.first[name] + self.second[name]) / 2 for name in self.first}

    @property
    def analytic(self) -> dict[str, bool]:
        """Whether both halves agree exactly, since the site's mean is a function of x without noise."""
        return {name: torch.equal(self.first[name], self.second[name]) for name in self.first}

    @property
    def variances(self) -> dict[str, Tensor]:
        """The variance over data of each unit's posterior mean, (Z,): the covariance of the halves.

        The halves' noise is independent, so none of it is counted; the variance of their mean would have 1/K of
        the posterior's variance on top, and call a unit active that no datum moves. May fall below zero by chance.
        """
        return {name: _covariance(self.first[name], self.second[name]) for name in self.first}

    @property
    def counts(self) -> dict[str, int]:
        return {name: int((variances > self.threshold).sum()) for name, variances in self.variances.items()}

    @property
    def figures(self) -> list[Figure]:
        counts = self.counts
        sites = [Figure(f"active units of {name}", counts[name], None, "units", self._note(name)) for name in counts]
        total = Figure("active units", sum(counts.values()), None, "units", "all sites")
        return [*sites, *([total] if len(sites) > 1 else [])]

    def _note(self, name: str) -> str:
        data, units = self.first[name].shape
        how = "analytic" if self.analytic[name] else f"by {self.num_particles} draws, their noise taken out"
        return f"of {units}; variance of posterior means above {self.threshold:g} over {data} data; means {how}"


def active_units(
    program: nn.Module, x: Batch, *, num_particles: int = 100, threshold: float = 0.01, seed: Seed = 0
) -> ActiveUnits:
    """Posterior means of every unit and their variance over the data; evaluation mode, no gradient.

    A unit is a coordinate of a site, or a state of a Categorical coordinate. Its posterior mean is that of its
    distribution in the guide, averaged over draws of the sites which that depends on; the mean of the draws themselves
    where the distribution does not know its own.

    Arguments:
        program: with methods model(x) and guide(x); the guide alone is run.
        x: data (N, *shape), or data and their conditions, (x, y); 16 N Z bytes are kept.
        num_particles: K, even.
        threshold: 0.01 in published counts; other definitions (a KL above 0.1, say) do not compare.
        seed: of the draws, or one for each datum (`datum_seeds`), where x is a part of the data.

    Raises:
        FloatingPointError: a posterior mean is infinite or not a number; the message names the datum and the site.
        ProgramError: the program breaks a rule.
        ValueError: there are no data, or no latents; num_particles is not even or not positive. Of a single datum
            there is no variance: asking for it raises.

    Example:
        >>> from pplvm.programs.vae import VAE
        >>> found = active_units(VAE(data_size=4, latent_size=3), torch.eye(4))
        >>> found.means["z"].shape, found.variances["z"].shape, found.analytic
        (torch.Size([4, 3]), torch.Size([3]), {'z': True})

    References:
        Burda, Grosse and Salakhutdinov, Importance weighted autoencoders, 2016, arXiv:1509.00519
    """
    if num_particles < 2 or num_particles % 2:
        raise ValueError(f"active_units: num_particles must be even and at least 2, got {num_particles}")
    halves = ([], [])
    with evaluation_mode(program, x, num_particles // 2) as pair:
        for number, row in enumerate(each_datum(x, seed)):
            for half in halves:
                half.append(_posterior_means(pair, as_tuple(row), num_particles // 2, number))
    if not halves[0][0]:
        raise ValueError("active_units counts coordinates of latents, and the program has none")
    first, second = ({name: torch.stack([row[name] for row in half]) for name in half[0]} for half in halves)
    return ActiveUnits(first, second, num_particles, threshold)


def _posterior_means(pair: Pair, row: tuple[Tensor, ...], draws: int, number: int) -> dict[str, Tensor]:
    """One datum's posterior means, (Z,) for each site, from `draws` draws."""
    totals: dict[str, Tensor] = {}
    for size in chunks(draws, MOST_AT_ONCE):
        for name, site in latents(pair.run_guide(size, row, {})).items():
            if not site["infer"].get("is_auxiliary") and not is_drawn_alike(site["fn"]):
                mean = _means(site).double().reshape(size, -1).sum(0).cpu() / draws
                totals[name] = totals[name] + mean if name in totals else mean
    for name, mean in totals.items():
        if not bool(mean.isfinite().all()):
            raise FloatingPointError(
                f"datum {number}: the posterior mean of site {name!r} is infinite or not a number; check the datum "
                "and the program's parameters"
            )
    return totals


def _means(site: Site) -> Tensor:
    """The mean of a site given earlier sites, in the shape of its value; of Categoricals, for each state."""
    fn, value = coordinates(site["fn"]), site["value"]
    if isinstance(fn, Categorical):
        return fn.probs.expand(*value.shape, -1)
    try:
        mean = site["fn"].mean
    except NotImplementedError:
        return value
    return mean.expand_as(value) if bool(mean.isfinite().all()) else value


def _covariance(a: Tensor, b: Tensor) -> Tensor:
    """The unbiased covariance over data of two columns, (N, Z) each: (Z,)."""
    if len(a) < 2:
        raise ValueError("active units need at least two data: of one there is no variance")
    return ((a - a.mean(0)) * (b - b.mean(0))).sum(0) / (len(a) - 1)
