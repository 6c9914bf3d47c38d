"""Two ways to choose among a program's samples: rejection sampling, and keeping the best-ranked share.

rejection_samples       accept x with probability r(x) / max r:   x ~ p(x) r(x) / E_p[r],   acceptance E_p[r] / max r
best_ranked_samples     of n / share samples keep the n of highest score: a known share, and a distribution that has
                        no formula, since whether x is kept depends on the other samples
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pplvm.batch import Batch
from pplvm.evaluation.per_datum import cycle_conditions
from pplvm.evaluation.samples import prior_samples

__all__ = ["ChosenSamples", "best_ranked_samples", "rejection_samples"]

Score = Callable[..., Tensor]
"""From samples (N, *shape) and their conditions, if any, to one number each, (N,)."""

AT_ONCE = 1000
"""Candidates drawn in one run of the model."""


@dataclass(frozen=True)
class ChosenSamples:
    """Samples that were chosen among candidates, and how many candidates that took.

    Arguments:
        mean, draw: as of `Samples`, (N, *shape) each.
        conditions: of each sample, (N, ...) each; none where the program takes none.
        scores: r(x) or the score of each sample, (N,).
        candidates: drawn for each sample, (N,), itself included.
    """

    mean: Tensor
    draw: Tensor
    conditions: tuple[Tensor, ...]
    scores: Tensor
    candidates: Tensor

    @property
    def acceptance(self) -> float:
        """The share of candidates that was taken; of rejection sampling an estimate of E_p[r] / max r."""
        return len(self.candidates) / float(self.candidates.sum())

    @property
    def acceptance_by_class(self) -> dict[int, float]:
        """The same for each label, where the first condition is labels (N,); else empty."""
        if not self.conditions or self.conditions[0].dim() != 1 or self.conditions[0].is_floating_point():
            return {}
        labels = self.conditions[0].cpu()
        return {int(y): 1 / float(self.candidates[labels == y].double().mean()) for y in labels.unique()}


def rejection_samples(
    program: nn.Module,
    like: Batch,
    ratio: Score,
    count: int,
    max_ratio: float = 1.0,
    *,
    seed: int = 0,
    temperature: float = 1.0,
    most_candidates: int = 1_000_000,
) -> ChosenSamples:
    """Draw samples from p(x) r(x) / E_p[r] by rejection: a candidate x ~ p is accepted with probability r(x) / max r.

    With r(x) = p(y | x) of a classifier these are samples of p(x | y), and the acceptance is p(y) = E_p p(y | x). Given
    conditions, each sample is drawn anew until one is accepted under its own, and so is one of p(x | y) r(x, y).

    Arguments:
        program: with methods model(x) and guide(x), or model(x, y) and guide(x, y) of conditions.
        like: as of `prior_samples`: a datum, or (x, y) with the conditions of each sample in turn.
        ratio: r, from samples (N, *shape), or samples and their conditions, to numbers (N,) from 0 to max_ratio.
        count: N of the samples to accept.
        max_ratio: a number that r never exceeds; 1 of a probability.
        seed: of candidates and acceptances.
        temperature: of the candidates, as of `prior_samples`; p is then the distribution at that temperature.
        most_candidates: the number after which to give up.

    Raises:
        ProgramError: as of `prior_samples`.
        ValueError: count is below 1; r is not (N,), not finite, negative or above max_ratio; the candidates are
            exhausted.

    Example:
        >>> from pplvm.programs.vae import VAE
        >>> def mostly_dark(x): return (x.mean((1, 2)) < 0.5).double()
        >>> chosen = rejection_samples(VAE(64), torch.zeros(1, 8, 8), mostly_dark, 5)
        >>> chosen.draw.shape, 0 < chosen.acceptance <= 1, bool((chosen.draw.mean((1, 2)) < 0.5).all())
        (torch.Size([5, 8, 8]), True, True)

    References:
        von Neumann, Various techniques used in connection with random digits, 1951
    """
    _check("rejection_samples", count)
    if not (math.isfinite(max_ratio) and max_ratio > 0):
        raise ValueError(f"rejection_samples: max_ratio must be a finite number above 0, got {max_ratio}")
    return _accepted(_Candidates(program, like, seed, temperature), ratio, count, max_ratio, most_candidates)


def best_ranked_samples(
    program: nn.Module,
    like: Batch,
    score: Score,
    count: int,
    share: float,
    *,
    seed: int = 0,
    temperature: float = 1.0,
) -> ChosenSamples:
    """Draw many samples and keep the share whose score is highest, of each class or other conditions the same share.

    This is what VQ-VAE-2 calls classifier based rejection: it trades diversity for quality by a share that is set. It
    is no rejection sampling: what is kept is not distributed as p(x) times a function of x.

    Arguments:
        program, like, seed, temperature: as of `rejection_samples`.
        score: from samples (N, *shape), or samples and their conditions, to numbers (N,): p(y | x), say.
        count: N of the samples to keep.
        share: of the candidates that is kept, above 0, at most 1.

    Raises:
        ProgramError: as of `prior_samples`.
        ValueError: count is below 1; share is not in (0, 1]; scores are not (N,) or not finite.

    Example:
        >>> from pplvm.programs.vae import VAE
        >>> chosen = best_ranked_samples(VAE(64), torch.zeros(1, 8, 8), lambda x: -x.mean((1, 2)), 5, share=0.25)
        >>> chosen.draw.shape, chosen.acceptance
        (torch.Size([5, 8, 8]), 0.25)

    References:
        Razavi, van den Oord and Vinyals, Generating diverse high-fidelity images with VQ-VAE-2, 2019, arXiv:1906.00446
    """
    _check("best_ranked_samples", count)
    if not 0 < share <= 1:
        raise ValueError(f"best_ranked_samples: share must be above 0 and at most 1, got {share}")
    candidates = _Candidates(program, like, seed, temperature)
    found, per_sample = [], torch.zeros(count)
    groups = _groups(cycle_conditions(like, range(count))[1:], count)
    for group in range(int(groups.max()) + 1):
        slots = (groups == group).nonzero()[:, 0]
        total = math.ceil(round(len(slots) / share, 9))  # 0.1 is a little above a tenth
        parts = candidates.draw(slots[torch.arange(total) % len(slots)])
        scores = _scores("best_ranked_samples: score", score, *parts)
        best = scores.argsort(descending=True, stable=True)[: len(slots)]
        found.append((slots, *(part[best] for part in (scores, *parts))))
        per_sample[slots] = total / len(slots)
    return _in_order(found, per_sample)


def _accepted(
    candidates: "_Candidates", ratio: Score, count: int, max_ratio: float, most_candidates: int
) -> ChosenSamples:
    """Draw candidates for all samples that wait for one, in each round more for each, until all have been accepted."""
    tried = torch.zeros(count, dtype=torch.long)  # (N,), candidates of each sample up to the accepted one
    waiting, repeats, found = torch.arange(count), 1, []
    while len(waiting):
        left = most_candidates - int(tried.sum())
        if left < len(waiting):
            raise ValueError(
                f"rejection_samples: {int(tried.sum()):,} candidates gave {count - len(waiting):,} of {count:,} samples"
                f", and one more for each is above most_candidates={most_candidates:,}: raise it, or lower max_ratio "
                "if r stays below that"
            )
        repeats = min(repeats, left // len(waiting), max(AT_ONCE // len(waiting), 1))
        parts = candidates.draw(waiting.repeat(repeats))
        r = _scores("rejection_samples: ratio", ratio, *parts)
        first, got = _first_accepted(r, max_ratio, candidates.uniform(len(r)), len(waiting))
        tried[waiting] += torch.where(got, first + 1, repeats)
        rows = (first * len(waiting) + torch.arange(len(waiting)))[got]
        found.append((waiting[got], *(part[rows.to(part.device)] for part in (r, *parts))))
        waiting, repeats = waiting[~got], 2 * repeats
    return _in_order(found, tried)


class _Candidates:
    """Samples of a program under the conditions of given rows, each call with a seed of its own."""

    def __init__(self, program: nn.Module, like: Batch, seed: int, temperature: float) -> None:
        self.program, self.like, self.temperature = program, like, temperature
        self._generator = torch.Generator().manual_seed(seed)

    def draw(self, numbers: Tensor) -> tuple[Tensor, ...]:
        """Means, draws and conditions of the samples with these numbers, (n, ...) each."""
        parts = []
        for some in numbers.split(AT_ONCE):
            args = cycle_conditions(self.like, some.tolist())
            seed = int(torch.randint(2**62, (), generator=self._generator))
            samples = prior_samples(self.program, args, len(some), seed, self.temperature)
            parts.append((samples.mean, samples.draw, *args[1:]))
        return tuple(torch.cat(part) for part in zip(*parts, strict=True))

    def uniform(self, count: int) -> Tensor:
        return torch.rand(count, generator=self._generator, dtype=torch.float64)


def _check(name: str, count: int) -> None:
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ValueError(f"{name}: count must be an integer of at least 1, got {count!r}")


def _first_accepted(r: Tensor, max_ratio: float, uniform: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Of several candidates for each of `count` samples, the number of the first accepted, and whether there is one.

    Raises:
        ValueError: r is negative or above max_ratio.
    """
    if bool((r < 0).any()) or bool((r > max_ratio * (1 + 1e-6)).any()):  # float32 probabilities exceed 1 by less
        raise ValueError(
            f"rejection_samples: ratio gave {float(r.min()):g} to {float(r.max()):g}, and it must lie between 0 and "
            f"max_ratio={max_ratio:g}: give the greatest value that it can have"
        )
    accepted = (uniform * max_ratio < r.double().cpu()).reshape(-1, count)
    return accepted.double().argmax(0), accepted.any(0)


def _scores(name: str, score: Score, mean: Tensor, draw: Tensor, *conditions: Tensor) -> Tensor:
    """One finite number for each candidate, (n,)."""
    with torch.no_grad():
        found = score(draw, *conditions)
    if tuple(found.shape) != (len(draw),):
        raise ValueError(f"{name} must give one number a sample, ({len(draw)},), and gave shape {tuple(found.shape)}")
    if not bool(found.isfinite().all()):
        raise ValueError(f"{name} gave NaN or infinity for {int((~found.isfinite()).sum())} of {len(draw)} samples")
    return found


def _groups(conditions: tuple[Tensor, ...], count: int) -> Tensor:
    """Equal numbers for samples of equal conditions, (N,)."""
    found = torch.zeros(count, 0, dtype=torch.long)
    for part in conditions:
        number = part.cpu().reshape(count, -1).unique(dim=0, return_inverse=True)[1]
        found = torch.cat([found, number[:, None]], 1)
    return found.unique(dim=0, return_inverse=True)[1] if conditions else torch.zeros(count, dtype=torch.long)


def _in_order(found: list[tuple[Tensor, ...]], candidates: Tensor) -> ChosenSamples:
    slots, *parts = (torch.cat(part) for part in zip(*found, strict=True))
    order = slots.argsort()
    scores, mean, draw, *conditions = (part[order.to(part.device)] for part in parts)
    return ChosenSamples(mean, draw, tuple(conditions), scores, candidates)
