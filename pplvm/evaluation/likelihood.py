"""Log p(x) by importance sampling, with diagnostics of the weights, and in bits per dimension.

    log p_k(x) = log (1/k) sum_k w_k,     w_k = p(x, z_k) / q(z_k | x),     z_k ~ q(z | x)

From below on average, ever less so as k grows; k = 1 is the elbo.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from pplvm.batch import Batch, as_tuple, batch_rows
from pplvm.bounds import elbo as mean_log_weight
from pplvm.bounds import iwae
from pplvm.evaluation.evidence import has_latents
from pplvm.evaluation.figures import Figure, mean_of
from pplvm.evaluation.likelihood_names import LikelihoodNames, likelihood_names
from pplvm.evaluation.particle_terms import ParticleTerms
from pplvm.evaluation.per_datum import Seed, each_datum, evaluation_mode
from pplvm.evaluation.proper_weighting import figure_name, why_never_tight, why_no_bound_per_datum
from pplvm.evaluation.weight_diagnostics import FEWEST, effective_size, khat_limit, pareto_khat
from pplvm.graphs.compiled import Tier
from pplvm.particles.pair import Particles
from pplvm.particles.random_lower_bounds import require_exact_densities

__all__ = ["ImportanceSampled", "bits_per_dim", "importance_sampled"]

FEW = 0.05
"""Share of the data whose k-hat may be too high before the estimate is called unreliable."""


ENOUGH = 8
"""Data from which an error of the draws is believed: of fewer, 1.96 of it hold the mean in less than 92 % of runs."""


@dataclass(frozen=True)
class ImportanceSampled:
    """Estimates of log p(x) from the same K draws of each datum, in float64, in nats; K is the last of `ks`.

    With a `fault`, log_p and elbo are but the log of the mean weight and the mean log-weight, as their figures say.
    """

    ks: tuple[int, ...]
    log_p: Tensor  # (N, len(ks)), -inf where no draw has weight
    error: Tensor  # (N, len(ks)), the draws' standard error of log_p about its mean; inf where log_p is -inf
    elbo: Tensor  # (N,), the mean log-weight of all K draws
    ess: Tensor  # (N,), from 1 to K, 0 where no draw has weight
    khat: Tensor  # (N,), nan under 25 draws and where the weights have no tail to fit
    fault: str = ""  # what keeps all this from a bound on log p(x)
    exact: bool = False  # the program has no latents, so that every draw has the weight p(x)
    names: LikelihoodNames = LikelihoodNames()  # what log_p is of
    short: str = ""  # what keeps log_p below the truth however many draws there are
    of: str = ""  # whose draws they are, " of the proposal" where not the program's own guide's

    @property
    def unreliable(self) -> float:
        """The share of the data whose k-hat is above `khat_limit(K)`, 0.7 from 2155 draws on."""
        return float((self.khat > self._limit).double().mean())

    @property
    def figures(self) -> list[Figure]:
        if self.exact:
            return [mean_of(f"{self.names.log_p}, exact", self.elbo, note="the program has no latents")]
        K = self.ks[-1]
        names = [figure_name(f"{self.names.log_p}, k = {k}", self.fault) for k in self.ks]
        log_p = [mean_of(name, self.log_p[:, i], note=self._note(i)) for i, name in enumerate(names)]
        ess = mean_of(f"effective sample size, k = {K}", self.ess, "draws")
        share = Figure(f"k-hat above {self._limit:.2g}", 100 * self.unreliable, None, "% of the data")
        elbo = (
            [] if self.ks[0] == 1 else [mean_of(figure_name(f"elbo{self.of}", self.fault), self.elbo, note=self.fault)]
        )
        return [*elbo, *log_p, ess, *([share] if K >= FEWEST else [])]

    @property
    def _limit(self) -> float:
        return khat_limit(max(self.ks[-1], FEWEST))

    def _draws_error(self, i: int) -> float:
        """The Monte Carlo error of the mean over data, whose draws are independent."""
        return float(self.error[:, i].square().sum().sqrt()) / len(self.error)

    def _note(self, i: int) -> str:
        own, behind = self._draws_error(i), float(effective_size(2 * self.error[:, i].log()))
        kind = self.fault or (f"the elbo{self.of}" if self.ks[i] == 1 else "lower bound on average")
        notes = [f"{kind}, +- {own:.2g} by its draws"]
        if self.short:
            notes += [f"it stays below {self.names.log_p} however large k is: {self.short}"]
        if 0 < behind < min(ENOUGH, len(self.error) / 4):
            notes += [f"which {behind:.0f} of {len(self.error)} data make: itself uncertain"]
        if lost := int((self.log_p[:, i] == -torch.inf).sum()):
            notes += [f"no draw has weight for {lost} of {len(self.log_p)} data"]
        if i == len(self.ks) - 1 and self.unreliable > FEW:
            share = f"k-hat above {self._limit:.2g} for {100 * self.unreliable:.0f} % of the data"
            notes += [f"importance weights unreliable, {share}: the lower bound may be loose"]
        return "; ".join(notes)


def importance_sampled(
    program: nn.Module,
    x: Batch,
    *,
    ks: Sequence[int] = (1, 10, 100, 1000, 5000),
    seed: Seed = 0,
    compile: Tier = "auto",
    report: Callable[[int, int], None] = lambda *progress: None,
) -> ImportanceSampled:
    """Estimate log p(x) at every k in one pass, one datum at a time, in evaluation mode without gradient.

    K draws a datum serve all: at k below K the estimate is the mean of log p_k over the K // k groups of k draws in
    turn, which has the same expectation as a single group and less variance. Where each k divides the next, a
    datum's estimates rise with k whatever the draws. The draws' error is that of the mean of the groups, or,
    where there is one, the jackknife's: on average over data it is no smaller than the error itself, however heavy the
    weights' tails, where the delta method's sqrt(1/ESS - 1/K) is.

    Arguments:
        program: with methods model(x) and guide(x), or model(x, y) and guide(x, y) of conditions.
        x: data (N, *shape), or data and their conditions, (x, y).
        ks: numbers of draws, rising.
        seed: of the draws, or one for each datum (`datum_seeds`), where x is a part of the data.
        compile: "off" for the program's handlers, "graph" or "inductor" for one graph of it, "auto" for what pays.
        report: is told how many data are done, and of how many.

    Raises:
        FloatingPointError: a weight is infinite or not a number; the message names the datum.
        ProgramError: the program breaks a rule.
        ValueError: there are no data; ks are no positive integers that rise.

    Example:
        >>> from pplvm.programs.ppca import ProbabilisticPCA
        >>> program, x = ProbabilisticPCA(data_size=3).at_posterior(), torch.zeros(2, 3)
        >>> found = importance_sampled(program, x, ks=(1, 30))
        >>> bool((found.log_p - program.log_evidence(x).unsqueeze(1)).abs().max() < 1e-5)
        True

    References:
        Burda, Grosse and Salakhutdinov, Importance weighted autoencoders, 2016, arXiv:1509.00519
        Vehtari, Simpson, Gelman, Yao and Gabry, Pareto smoothed importance sampling, 2024, arXiv:1507.02646
        Efron and Stein, The jackknife estimate of variance, 1981
        Owen, Monte Carlo theory, methods and examples, 2013, chapter 9 (the effective sample size)
    """
    ks = _rising(ks)
    with evaluation_mode(program, x, ks[-1]) as pair:
        require_exact_densities(pair, batch_rows(as_tuple(x), slice(1)), {}, "importance sampling")
        fault, exact, names = why_no_bound_per_datum(pair, x), not has_latents(pair, x), likelihood_names(pair, x)
        short = "" if fault else why_never_tight(pair, x)
        terms, found = ParticleTerms(pair, x, 1 if exact else ks[-1], _weights, compile), []
        for number, row in enumerate(each_datum(x, seed)):
            found.append(_of_one(_log_weights(terms, row, number).expand(ks[-1]), ks))
            report(number + 1, terms.num_data)
    log_p, error, elbo, ess, khat = (torch.stack(column) for column in zip(*found, strict=True))
    error = torch.zeros_like(error) if exact else error
    return ImportanceSampled(ks, log_p, error, elbo, ess, khat, fault, exact, names, short)


def bits_per_dim(
    log_p: Tensor,
    dims: int,
    *,
    discrete: bool,
    levels: int | None = None,
    dequantized: bool = False,
    given: Sequence[str] = (),
) -> Figure:
    """Minus log p(x) in bits per dimension, labelled where it is not comparable with published values.

        discrete likelihood          -log p(x) / (D ln 2)
        dequantized to [0, 1]        -log p(x) / (D ln 2) + log2(levels)
        any other density            -log p(x) / (D ln 2), of real data: depends on the unit that x is measured in

    Arguments:
        log_p: (N,), log p(x) or a bound on it, in nats.
        dims: D, all of a datum's: channels x height x width.
        discrete: whether the observed site is discrete, so that log p(x) is of a probability.
        levels: grey levels of the data before any noise.
        dequantized: whether the data are (k + u) / levels, with u uniform in [0, 1).
        given: names of what log_p is conditional on; the figure is named after them.

    Raises:
        ValueError: dims is not positive; data are dequantized under a discrete likelihood or without their levels.

    Example:
        >>> print(bits_per_dim(torch.zeros(2), 3, discrete=False, levels=256, dequantized=True))
        bits/dim 8.00 +- 0 bits/dim (density of dequantized data, 256 levels in [0, 1]: log2(256) added)
        >>> print(bits_per_dim(torch.tensor([-1.3863]), 2, discrete=True))
        bits/dim 1.00 bits/dim (discrete likelihood)

    References:
        Theis, van den Oord and Bethge, A note on the evaluation of generative models, 2016, arXiv:1511.01844
    """
    if dims < 1:
        raise ValueError(f"bits_per_dim: dims must be the number of dimensions of a datum, at least 1, got {dims}")
    if dequantized and (discrete or levels is None):
        raise ValueError("bits_per_dim: dequantized data need their levels and a likelihood that is a density")
    bits = -log_p.detach().double() / (dims * math.log(2))
    grey = "" if levels is None else f", {levels} levels"
    behind = f" given {', '.join(given)}" if given else ""
    if discrete:
        return mean_of(f"bits/dim{behind}", bits, "bits/dim", f"discrete likelihood{grey}")
    if dequantized and levels is not None:
        note = f"density of dequantized data{grey} in [0, 1]: log2({levels}) added"
        return mean_of(f"bits/dim{behind}", bits + math.log2(levels), "bits/dim", note)
    return mean_of(f"density{behind}", bits, "bits/dim", f"density of real data{grey}; bits/dim not comparable")


def _rising(ks: Sequence[int]) -> tuple[int, ...]:
    ks = tuple(ks)
    if not ks or any(isinstance(k, bool) or not isinstance(k, int) or k < 1 for k in ks):
        raise ValueError(f"ks must be numbers of draws, integers of at least 1, got {ks!r}")
    if any(a >= b for a, b in pairwise(ks)):
        raise ValueError(f"ks must rise, as (1, 10, 100), got {ks!r}")
    return ks


def _weights(drawn: Particles) -> dict[str, Tensor]:
    return {"log w": drawn.log_weights[:, 0]}


def _log_weights(terms: ParticleTerms, row: Batch, number: int) -> Tensor:
    """Of one datum, (K,), float64, on the CPU."""
    log_weights = terms(row)["log w"].double().cpu()
    if not bool((log_weights < torch.inf).all()):
        raise FloatingPointError(
            f"datum {number}: a log-weight log p(x, z) - log q(z | x) is infinite or not a number; "
            "check the datum, the program's parameters, and draws that underflow (relaxed ones at a low temperature)"
        )
    return log_weights


def _of_one(log_weights: Tensor, ks: tuple[int, ...]) -> tuple[Tensor, ...]:
    """The columns of `ImportanceSampled` for one datum's log-weights (K,)."""
    K, ess = len(log_weights), effective_size(log_weights)
    log_p, error = [], []
    for k in ks:
        groups = iwae(log_weights[: K // k * k].reshape(-1, k).T)  # (K // k,)
        spread = groups.std() / len(groups) ** 0.5 if len(groups) > 1 else _jackknife(log_weights[:k])
        log_p.append(groups.mean())
        error.append(spread.nan_to_num(torch.inf))
    khat = pareto_khat(log_weights.unsqueeze(0).numpy())[0] if K >= FEWEST else math.nan
    tail = torch.tensor(khat, dtype=torch.float64)
    return torch.stack(log_p), torch.stack(error), mean_log_weight(log_weights), ess, tail


def _jackknife(log_weights: Tensor) -> Tensor:
    """The jackknife standard error of the log of the mean weight, from log-weights (K,).

    Not a number where no other draw has weight, and of a single draw, of which nothing tells the error.
    """
    K, shares = len(log_weights), log_weights.softmax(0)
    largest = log_weights.argmax()
    others = log_weights.index_fill(0, largest, -torch.inf)
    without = (-shares).log1p()  # up to a constant
    without[largest] = others.logsumexp(0) - log_weights.logsumexp(0)  # where 1 - share would cancel
    return ((K - 1) / K * (without - without.mean()).square().sum()).sqrt()
