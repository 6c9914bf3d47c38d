"""Compares gradient estimators at fixed parameters: bias, variance, signal-to-noise, cost.

For each estimator and each of a few fixed minibatches, many replicate gradients are drawn and compared with
the gradient that it should have (`pplvm.estimators.references.reference`). Replicates of different estimators share
their seeds, are drawn in turn, so that all see the same machine, and stream through running moments.

Ranks that have joined (`pplvm.distributed`) share out the replicates of each minibatch, and each replicate keeps the
seed that it has in one process, so that the same gradients are drawn. Their moments are added up, and each replicate
has the milliseconds of the rank that drew it.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from pplvm.batch import Batch, as_tuple
from pplvm.distributed.collectives import all_reduce_sum
from pplvm.distributed.object_collectives import all_gather_object, error_message, rank_indices
from pplvm.distributed.ranks import my_rows, size
from pplvm.estimators.baselines import train_baseline
from pplvm.estimators.comparable import require_comparable, require_given_minibatches
from pplvm.estimators.cost.evaluations import evaluations_per_datum
from pplvm.estimators.cost.timing import load_average
from pplvm.estimators.failures import Failures, left_out_sentences, require_finite, with_estimator_name
from pplvm.estimators.forecast import Forecast, forecast_of
from pplvm.estimators.measurements.measurement import Measurement
from pplvm.estimators.measurements.pooled_bias import pooled_bias
from pplvm.estimators.parameters import Parameters
from pplvm.estimators.references.minibatches import References
from pplvm.estimators.references.target import Target, target_label, target_of
from pplvm.estimators.replicates.drawing import Drawing, random_state_kept
from pplvm.estimators.replicates.gradient import joined
from pplvm.estimators.replicates.round_robin import drawn_round_robin, replicates_a_round
from pplvm.estimators.replicates.sampling import Sampling
from pplvm.estimators.results.dataset import to_dataset
from pplvm.estimators.results.display import ComparisonRepr, ComparisonResult
from pplvm.estimators.results.estimator_rows import package_versions, row_of, traces_of
from pplvm.estimators.results.unfinished import without_verdicts
from pplvm.estimators.statistics.bias import POWER
from pplvm.estimators.statistics.cross_covariance import CrossCovarianceStream
from pplvm.estimators.statistics.projection import Projection
from pplvm.objectives.objective import Loss
from pplvm.particles.side_effects import buffers_restored, cuda_devices

__all__ = ["Comparison"]

AS_TRAINED = Sampling()
"""Common random numbers, each replicate the noise of one step of training."""


class Comparison(ComparisonRepr):
    """A running comparison: `rounds()` draws replicates, `result()` gives the results so far; a collective operation.

    Arguments:
        losses: estimators by name, all on one program.
        batches: fixed minibatches, at least one: each x (B, ...), or a tuple (x, y, ...) of it and its conditions.
        replicates: gradients per estimator and minibatch.
        reference_draws: a minibatch, of an estimator that must serve as reference where none is exact; with fewer a
            larger bias escapes, as `detectable_bias` says.
        warm_up: steps in which baselines learn before they are frozen.
        kept: replicates per minibatch whose single values are kept for the record.
        sampling: seeds, the design of the noise, and whether graphs draw replicates.
        tell: is told, in a sentence, of what fails and is left out while the others go on: an estimator, a reference.

    Raises:
        ValueError: no estimator, no batch, fewer than 2 replicates, reference draws or replicates than ranks; losses
            of different programs.
    """

    def __init__(
        self,
        losses: Mapping[str, Loss],
        batches: Sequence[Batch],
        replicates: int = 250,
        reference_draws: int = 250,
        warm_up: int = 50,
        kept: int = 250,
        *,
        sampling: Sampling = AS_TRAINED,
        tell: Callable[[str], None] = warnings.warn,
    ) -> None:
        require_comparable(losses, batches, replicates, reference_draws)
        self.losses, self.replicates = dict(losses), replicates
        self.batches = [as_tuple(batch) for batch in batches]
        self.sampling, self._tell = sampling, tell
        self._numbers = {name: number for number, name in enumerate(losses)}
        self.left_out: list[str] = []  # a sentence each
        self.kept, self.warm_up, self.reference_draws = kept, warm_up, reference_draws
        self.program = next(iter(losses.values())).program
        with buffers_restored(self.program):
            require_given_minibatches(self.program, self.batches[0])
            self.parameters = Parameters.of(self.program, self.batches[0])
        if not self.parameters.size:
            raise ValueError("compare_gradients: the program has no parameter to learn")
        self.measurements: dict[str, list[Measurement]] = {}
        self.cross_covariances: list[CrossCovarianceStream] = []  # between estimators, one a minibatch
        self.evaluations: dict[str, float] = {}
        self._load_averages: list[float] = []
        tier = sampling.tier
        if tier == "auto" and size() > 1:
            tier = "off"  # decided by time, which ranks would not agree on
        counts = len(rank_indices(replicates)), len(batches)
        self.drawings = {
            name: Drawing(loss, self.parameters, *counts, tier, sampling.design) for name, loss in losses.items()
        }
        self.references: References | None = None  # once the estimators are prepared

    @property
    def number_of_rounds(self) -> int:
        return len(self.batches) * len(rank_indices(self.replicates))

    def rounds(self) -> Iterator[int]:
        """Draw a few replicates of every estimator a round, on each rank; yields the number of rounds done."""
        for what, steps, _ in self.phases():
            for done in steps:
                if what == "replicates":
                    yield done

    def phases(self) -> Iterator[tuple[str, Iterator[int], int]]:
        """The phases in order: name, rounds (each iterated to its end), number of rounds.

        The second, of references that must be drawn, may have no round. Before it `forecast` is known.
        """
        yield "preparation", random_state_kept(self._prepare()), len(self.losses)
        assert self.references is not None
        yield "reference draws", random_state_kept(self.references.rounds()), self.references.number_of_rounds
        yield "replicates", random_state_kept(self._replicate()), self.number_of_rounds

    @property
    def forecast(self) -> Forecast:
        """The expected time of replicates and references, once the estimators are prepared."""
        assert self.references is not None
        return forecast_of(self.losses, self.drawings, self.references, self.replicates)

    def _replicate(self) -> Iterator[int]:
        assert self.references is not None
        done = 0
        for number, batch in enumerate(self.batches):
            references = self.references[number]
            for name, loss in self.losses.items():
                reference = references[target_of(loss)]
                seen = self.references.projection
                if reference is not None and reference.relative_error < PRECISE:
                    seen = seen.towards(reference.gradient)
                kept = len(range(self.kept)[my_rows(self.kept)])
                if number:
                    self.measurements[name][-1].stream.free_memory()  # or each minibatch would keep a chunk's memory
                measurement = Measurement(reference, self.parameters, seen, kept)
                self.measurements.setdefault(name, []).append(measurement)
            streams = [self.measurements[name][number].stream for name in self.losses]
            self.cross_covariances.append(CrossCovarianceStream(streams))
            for drawing in self.drawings.values():
                drawing.forget()
            mine = list(rank_indices(self.replicates))
            while mine:
                now, mine = mine[: (count := replicates_a_round(self.drawings, self.parameters.size))], mine[count:]
                self._take_in(batch, number, [draw for draw in now if draw < self.replicates])
                self._load_averages += load_average()
                done += len(now)
                yield done

    @property
    def has_result(self) -> bool:
        """Whether every estimator has two replicates on the first minibatch, over all ranks."""
        if len(self.measurements) < len(self.losses):
            return False
        fewest = min(found[0].stream.count for found in self.measurements.values())
        return int(all_reduce_sum(torch.tensor(fewest))) > 1

    def result(self) -> ComparisonResult:
        """The results so far of all ranks; estimators with fewer than two replicates are left out.

        Until all replicates are drawn every verdict is "unfinished", and the attribute of this name tells how many are.

        Raises:
            ValueError: nothing was measured yet.
        """
        rows = {}
        for name, measurements in self.measurements.items():
            if found := [m for m in (m.over_ranks() for m in measurements) if m.gradient.count > 1]:
                test = pooled_bias(found, ALPHA / len(self.losses), ALPHA)
                evaluations = self.evaluations[name] * self.sampling.design.points
                rows[name] = row_of(self.losses[name], found, evaluations, test, self.drawings[name].plan)
        if not rows:
            raise ValueError("nothing was measured yet: every estimator needs at least 2 replicates")
        averages = [each for found in all_gather_object(self._load_averages) for each in found]
        found = to_dataset(
            rows,
            self.parameters,
            self.entries,
            traces_of(self.cross_covariances, [name in rows for name in self.losses]),
            averages,
        )
        done = min(sum(m.gradient.count for m in row.found) for row in rows.values())
        found = without_verdicts(found, len(self.batches) * self.replicates, done)
        return ComparisonResult.of(found.assign_attrs(self._circumstances()))

    def _circumstances(self) -> dict[str, str | int | float]:
        return {
            "schema": "pplvm gradients 1",
            "program": type(self.program).__name__,
            "batch_size": len(self.batches[0][0]),
            "minibatches": len(self.batches),
            "parameters": self.parameters.size,
            "seed": self.sampling.seed,
            "alpha": ALPHA,
            "power": POWER,
            "projections": self._directions(),
            "noise": str(self.sampling),
            "left_out": "\n".join(self.left_out),
            **package_versions(),
        }

    def _directions(self) -> int:
        """The number of projections per tensor: few enough to estimate their covariance."""
        return max(1, min(3, len(self.batches) * self.replicates // (10 * len(self.parameters.names))))

    def _prepare(self) -> Iterator[int]:
        """Costs, baselines and a first draw of every estimator, so that failures come before measurements."""
        torch.manual_seed(self.sampling.seed)
        failures = Failures()
        for done, name in enumerate(self.losses, start=1):
            with failures.of(name):
                self.evaluations[name] = self._settled(name)
            with torch.random.fork_rng(cuda_devices(self.batches[0])):
                yield done
        self._leave_out(failures)
        generator = torch.Generator().manual_seed(self.sampling.seed)
        self.entries = torch.randperm(self.parameters.size, generator=generator)[:50].sort().values
        self.references = References(
            self.program,
            self.parameters,
            self.batches,
            list(dict.fromkeys(target_of(loss) for loss in self.losses.values())),
            self.reference_draws,
            Projection(self.parameters, self._directions(), self.sampling.seed),
            lambda number: self.sampling.seed_of(number, -1),
            self._no_reference,
        )
        self.references.rehearse()

    def _settled(self, name: str) -> float:
        """Prepare an estimator: train its baseline, try it once; returns its likelihood evaluations."""
        loss, batch = self.losses[name], self.batches[0]
        with buffers_restored(self.program):
            evaluations = evaluations_per_datum(loss, batch)
            if loss.control is not None:
                train_baseline(loss, self.batches, self.warm_up)
        require_finite(name, self.drawings[name].try_out(batch, self.sampling.seed), "the first one drawn")
        return evaluations

    def _leave_out(self, failures: Failures) -> None:
        """Leave out estimators that failed on any rank.

        Raises:
            Exception: the first of theirs, if nothing is left.
        """
        errors = failures.over_ranks()
        if len(errors) == len(self.losses):
            raise with_estimator_name(*next(iter(errors.items())))
        for name in errors:
            for shared in self.cross_covariances:
                shared.drop(list(self.losses).index(name))
            for held in (self.losses, self.drawings, self.measurements):
                held.pop(name, None)
        for sentence in left_out_sentences({name: error_message(error) for name, error in errors.items()}):
            self._note(sentence)

    def _no_reference(self, target: Target, error: Exception) -> None:
        goal = target_label(*target)
        self._note(f"nothing is held against the gradient of {goal}, as its reference fails: {error_message(error)}")

    def _note(self, sentence: str) -> None:
        if sentence not in self.left_out:
            self.left_out.append(sentence)
            self._tell(sentence)

    def _take_in(self, batch: tuple[Tensor, ...], number: int, draws: Sequence[int]) -> None:
        """Add the same replicates of every estimator: all are drawn before any is added."""

        def seed_of(name: str, draw: int) -> int:
            return self.sampling.seed_of(number, draw, self._numbers[name])

        drawn, failures = drawn_round_robin(self.drawings, batch, draws, seed_of)
        self._leave_out(failures)
        if draws:
            seen = [self.measurements[n][number].add(joined(drawn[n]), self.entries) for n in self.losses]
            self.cross_covariances[-1].add(seen)


ALPHA = 0.01
"""The chance that any of the compared estimators is called biased although none is, and of each that it is not called
unbiased because its mean seems off."""

PRECISE = 0.01
"""A reference of relative error e that is also a direction shifts what is seen along it by e^2: 0.0001 here."""
