"""Gradient estimators of one program side by side, at frozen parameters: bias, variance, signal, cost.

For each estimator and each of a few fixed minibatches, many replicate gradients are drawn and compared with
the gradient that it should have (`pplvm.evaluation.estimators.reference`). Replicates of different estimators share
their seeds, are drawn in turn, so that all see the same machine, and stream through running moments.

Ranks that have joined (`pplvm.distributed`) share out the replicates of each minibatch, and each replicate keeps the
seed that it has in one process, so that the same gradients are drawn. Their moments are added up, and each replicate
has the milliseconds of the rank that drew it.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import torch
import xarray as xr
from torch import Tensor

from pplvm.contract import sample_sites
from pplvm.distributed import my_rows, rank, size, total
from pplvm.evaluation.estimators.bias import POWER, BiasTest
from pplvm.evaluation.estimators.cost import evaluations_per_datum
from pplvm.evaluation.estimators.crossing import Crossing
from pplvm.evaluation.estimators.dataset import Row, to_dataset
from pplvm.evaluation.estimators.measurement import Drawn, Measurement, pooled_bias, target_of
from pplvm.evaluation.estimators.moments import over_ranks
from pplvm.evaluation.estimators.parameters import Parameters
from pplvm.evaluation.estimators.projection import Projection
from pplvm.evaluation.estimators.reference import Reference, Target, references_for
from pplvm.evaluation.estimators.streams import Gradient
from pplvm.graphs.chunks import Dense
from pplvm.objectives.objective import Loss
from pplvm.objectives.score_function import ScoreFunction
from pplvm.particles import inspect_pair
from pplvm.unison import exchanged, in_unison, turns

__all__ = ["Comparison", "compare_gradients"]


class Comparison:
    """A running comparison: `rounds()` draws, `result()` says what is known so far; all ranks call them alike.

    Arguments:
        losses: estimators by name, all on one program.
        batches: fixed minibatches, each (B, ...), at least one.
        replicates: gradients per estimator and minibatch.
        reference_draws: a minibatch, of an estimator that must serve as reference.
        warm_up: steps in which baselines learn before they are frozen.
        seed: replicates of all estimators share the stream of (seed, minibatch, replicate).
        kept: replicates per minibatch whose single values are kept for the record.

    Raises:
        ValueError: no estimator, no batch, fewer than 2 replicates or than ranks; losses of different programs.
    """

    def __init__(
        self,
        losses: Mapping[str, Loss],
        batches: Sequence[Tensor],
        replicates: int = 250,
        reference_draws: int = 250,
        warm_up: int = 50,
        seed: int = 0,
        kept: int = 250,
    ) -> None:
        if not losses or not batches or replicates < 2:
            raise ValueError("compare_gradients needs an estimator, a batch and at least 2 replicates")
        if replicates < size():
            raise ValueError(f"{replicates} replicates are fewer than the {size()} processes: start fewer")
        programs = {id(loss.program) for loss in losses.values()}
        if len(programs) != 1:
            raise ValueError("compare_gradients compares estimators of one program; these losses hold several")
        self.losses, self.batches, self.replicates = dict(losses), list(batches), replicates
        self.seed, self.kept, self.warm_up, self.reference_draws = seed, kept, warm_up, reference_draws
        self.program = next(iter(losses.values())).program
        self._refuse_own_minibatches()
        self.parameters = Parameters.of(self.program, self.batches[0])
        if not self.parameters.size:
            raise ValueError("compare_gradients: the program has no parameter to learn")
        self.measurements: dict[str, list[Measurement]] = {}
        self.crossed: list[Crossing] = []  # between estimators, one a minibatch
        self.evaluations: dict[str, float] = {}
        self._noiseless: set[str] = set()
        self._repeated: dict[str, Drawn] = {}  # of those, the last replicate
        self._ahead: list[list[Reference | None]] = []  # of this minibatch and the next, one a rank

    @property
    def number_of_rounds(self) -> int:
        return len(self.batches) * -(-len(turns(self.replicates)) // AT_ONCE)

    def rounds(self) -> Iterator[int]:
        """Draw a few replicates of every estimator at a time, on each rank; yields how many rounds are done."""
        state = torch.get_rng_state()
        try:
            yield from self._rounds()
        finally:
            torch.set_rng_state(state)

    def _rounds(self) -> Iterator[int]:
        self._prepare()
        generator = torch.Generator().manual_seed(self.seed)
        self.entries = torch.randperm(self.parameters.size, generator=generator)[:50].sort().values
        projection = Projection(self.parameters, self._directions(), self.seed)
        done = 0
        for number, x in enumerate(self.batches):
            references = self._references(number, projection)
            for name, loss in self.losses.items():
                reference = references[target_of(loss)]
                seen = projection
                if reference is not None and reference.relative_error < PRECISE:
                    seen = projection.towards(reference.gradient)
                kept = len(range(self.kept)[my_rows(self.kept)])
                measurement = Measurement(reference, self.parameters, seen, kept)
                self.measurements.setdefault(name, []).append(measurement)
            self.crossed.append(Crossing([self.measurements[name][number].stream for name in self.losses]))
            mine = turns(self.replicates)
            for start in range(0, len(mine), AT_ONCE):
                if draws := [draw for draw in mine[start : start + AT_ONCE] if draw < self.replicates]:
                    self._take_in(x, number, draws)
                done += 1
                yield done

    @property
    def has_result(self) -> bool:
        """Whether every estimator has two replicates on the first minibatch, of all ranks together."""
        if len(self.measurements) < len(self.losses):
            return False
        fewest = min(found[0].stream.count for found in self.measurements.values())
        return int(total(torch.tensor(fewest))) > 1

    def result(self) -> xr.Dataset:
        """Everything that all ranks know so far, estimators with fewer than two replicates left out.

        Raises:
            ValueError: nothing was measured yet.
        """
        rows = {}
        for name, measurements in self.measurements.items():
            if found := [m for m in (m.over_ranks() for m in measurements) if m.gradient.count > 1]:
                test = pooled_bias(found, ALPHA / len(self.losses))
                rows[name] = _row(self.losses[name], found, self.evaluations[name], test)
        if not rows:
            raise ValueError("nothing was measured yet: every estimator needs at least 2 replicates")
        return to_dataset(rows, self.parameters, self.entries, self._traces(rows)).assign_attrs(self._circumstances())

    def _traces(self, rows: Mapping[str, Row]) -> Tensor:
        """Traces of the covariances between estimators, the mean over minibatches: (E, E)."""
        shown = torch.tensor([name in rows for name in self.losses])
        finished = [found.traces for found in (over_ranks(c.moments()) for c in self.crossed) if found.count > 1]
        traces = torch.stack(finished).mean(0) if finished else torch.full((len(shown),) * 2, torch.nan).double()
        return traces[shown][:, shown]

    def _circumstances(self) -> dict[str, str | int | float]:
        return {
            "schema": "pplvm gradients 1",
            "program": type(self.program).__name__,
            "batch_size": len(self.batches[0]),
            "minibatches": len(self.batches),
            "parameters": self.parameters.size,
            "seed": self.seed,
            "alpha": ALPHA,
            "power": POWER,
            "projections": self._directions(),
            **{f"{package}_version": version(name) for package, name in PACKAGES.items()},
        }

    def _refuse_own_minibatches(self) -> None:
        trace, _, _ = inspect_pair(self.program.model, None, (self.batches[0],), {})
        for site in sample_sites(trace).values():
            if any(f.dim == -1 and f.size != len(self.batches[0]) for f in site["cond_indep_stack"]):
                raise ValueError(
                    f"compare_gradients: site {site['name']!r} draws a minibatch of its own from what it is given, so "
                    "no two gradients are of the same data: give minibatches, subsample_size=len(x)"
                )

    def _directions(self) -> int:
        """Projections per tensor: few enough for the draws to estimate their covariance."""
        return max(1, min(3, len(self.batches) * self.replicates // (10 * len(self.parameters.names))))

    def _prepare(self) -> None:
        torch.manual_seed(self.seed)
        for name, loss in self.losses.items():
            self.evaluations[name] = evaluations_per_datum(loss, self.batches[0])
            if loss.control is not None:
                settle(loss, self.batches, self.warm_up)

    def _references(self, number: int, projection: Projection) -> dict[Target, Reference | None]:
        """Of one minibatch; each rank finds those of another, since draws of one stream cannot be shared out."""
        targets = list(dict.fromkeys(target_of(loss) for loss in self.losses.values()))
        if number % size() == 0:
            with in_unison():
                mine = self._found(number + rank(), targets, projection)
            self._ahead = exchanged(mine)
        return dict(zip(targets, self._ahead[number % size()], strict=True))

    def _found(self, number: int, targets: list[Target], projection: Projection) -> list[Reference | None]:
        if number >= len(self.batches):
            return []
        torch.manual_seed(_stream(self.seed, number, -1))
        x = self.batches[number]
        found = references_for(self.program, self.parameters, x, targets, self.reference_draws, projection)
        return [found[target] for target in targets]

    def _take_in(self, x: Tensor, number: int, draws: Sequence[int]) -> None:
        """The same replicates of every estimator: all are drawn before any is taken in."""
        drawn = {name: self._draw(name, x, number, draws) for name in self.losses}
        seen = [self.measurements[name][number].add(found, self.entries) for name, found in drawn.items()]
        self.crossed[-1].add(seen)

    def _draw(self, name: str, x: Tensor, number: int, draws: Sequence[int]) -> Drawn:
        """Some replicates of one estimator."""
        if name in self._noiseless and self.measurements[name][number].stream.count:
            return self._repeated[name].repeated(len(draws))
        values, gradients, milliseconds = zip(*[self._replicate(name, x, number, draw) for draw in draws], strict=True)
        chunks = [_together(each) for each in zip(*gradients, strict=True)]
        drawn = Drawn(torch.stack(values).double().cpu(), Gradient.of(chunks, self.parameters), list(milliseconds))
        finite = drawn.gradient.squares.isfinite().all(1)
        if not finite.all():
            draw = draws[int(finite.int().argmin())]
            raise FloatingPointError(f"estimator {name} gave a gradient that is not finite (replicate {draw})")
        if name in self._noiseless:
            self._repeated[name] = drawn
        return drawn

    def _replicate(self, name: str, x: Tensor, number: int, draw: int) -> tuple[Tensor, list[Tensor | None], float]:
        """Its value, its gradient by tensor, and its milliseconds."""
        loss = self.losses[name]
        torch.manual_seed(_stream(self.seed, number, draw))
        self.program.zero_grad(set_to_none=True)
        state = random_state(x)
        _wait(x)
        start = time.perf_counter()
        value = loss(x)
        if value.requires_grad:
            value.backward()
        _wait(x)
        spent = (time.perf_counter() - start) * 1e3
        if draw >= TIMED and torch.equal(state, random_state(x)):
            self._noiseless.add(name)  # nothing was drawn, so all draws are this one
        return value.detach(), [p.grad for p in self.parameters.tensors], spent


ALPHA = 0.01
"""The chance that any of the compared estimators is called biased although none is."""

PRECISE = 0.01
"""A reference of relative error e that is also a direction shifts what is seen along it by e^2: 0.0001 here."""

AT_ONCE = 1
"""Replicates of one round."""

TIMED = 5
"""Draws of an objective without noise, for its time; the rest are repeated, not computed."""

PACKAGES = {"pplvm": "pplvm", "torch": "torch", "pyro": "pyro-ppl"}


def compare_gradients(losses: Mapping[str, Loss], batches: Sequence[Tensor], **options: Any) -> xr.Dataset:
    """Compare gradient estimators of one program at its present parameters.

    Arguments:
        losses, batches, options: as for `Comparison`.

    Returns:
        A dataset with dims chain (minibatch), draw, estimator, coord, group, side; ArviZ reads it as it is.

    Example:
        >>> from pplvm.objectives.score_function import LeaveOneOut, ScoreFunction
        >>> from pplvm.programs.sigmoid_belief import SigmoidBeliefNet
        >>> program = SigmoidBeliefNet(data_size=6, latent_sizes=(2,))
        >>> losses = {"reinforce": Loss(ScoreFunction(), program), "rloo": Loss(LeaveOneOut(), program)}
        >>> result = compare_gradients(losses, [torch.ones(5, 6)], replicates=20)
        >>> bool(result.variance.sel(estimator="rloo") < result.variance.sel(estimator="reinforce"))
        True
    """
    comparison = Comparison(losses, batches, **options)
    for _ in comparison.rounds():
        pass
    return comparison.result()


def _row(loss: Loss, found: list[Measurement], evaluations: float, test: BiasTest | None) -> Row:
    objective = loss.objective
    plain = type(objective) is ScoreFunction and objective.control is None
    return Row(found, target_of(loss), getattr(objective, "num_particles", 1), evaluations, test, plain)


def settle(loss: Loss, batches: Sequence[Tensor], steps: int) -> None:
    """Let a baseline learn at the present parameters of the program, then freeze it."""
    assert loss.control is not None
    loss.control.train()
    learned = list(loss.control.parameters())
    optimizer = torch.optim.Adam(learned, lr=1e-2) if learned else None
    for step in range(steps):
        loss.zero_grad(set_to_none=True)
        loss(batches[step % len(batches)]).backward()
        if optimizer is not None:
            optimizer.step()
    loss.control.eval()


def _together(gradients: Sequence[Tensor | None]) -> Dense | None:
    """The replicate gradients of one tensor, zero where a replicate has none."""
    there = [gradient for gradient in gradients if gradient is not None]
    if not there:
        return None
    if len(gradients) == 1:
        return Dense(there[0].unsqueeze(0))
    return Dense(torch.stack([torch.zeros_like(there[0]) if each is None else each for each in gradients]))


def _stream(seed: int, minibatch: int, draw: int) -> int:
    return ((seed * 1_000_003 + minibatch) * 1_000_003 + draw + 1) % 2**63


def random_state(x: Tensor) -> Tensor:
    """From which the draws of a program on x follow."""
    return torch.cuda.get_rng_state(x.device) if x.is_cuda else torch.get_rng_state()


def _wait(x: Tensor) -> None:
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
