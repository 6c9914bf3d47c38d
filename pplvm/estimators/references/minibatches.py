"""The references of all minibatches of a comparison, drawn step by step and shared out over ranks."""

import time
from collections.abc import Callable, Generator, Iterator, Sequence

import torch
from torch import nn

from pplvm.batch import Batch, as_tuple
from pplvm.distributed.object_collectives import all_gather_object, errors_on_all_ranks
from pplvm.distributed.ranks import rank, size
from pplvm.estimators.parameters import Parameters
from pplvm.estimators.references.reference import Draw, reference_draws
from pplvm.estimators.references.tables import Reference
from pplvm.estimators.references.target import Target
from pplvm.estimators.statistics.projection import Projection
from pplvm.particles.side_effects import buffers_restored, cuda_devices

__all__ = ["References"]

Steps = Generator[Draw, None, dict[Target, Reference | None]]


class References:
    """The reference gradient of each target on each minibatch.

    Arguments:
        program, parameters: as of the comparison.
        batches: minibatches, each (B, ...), or a tuple of it and its conditions.
        targets: none twice.
        draws: of an estimator that must serve as reference.
        projection: in which references and estimators are compared.
        seed_of: the seed of a minibatch's draws.
        failed: is told of a target whose reference fails.
    """

    def __init__(
        self,
        program: nn.Module,
        parameters: Parameters,
        batches: Sequence[Batch],
        targets: list[Target],
        draws: int,
        projection: Projection,
        seed_of: Callable[[int], int],
        failed: Callable[[Target, Exception], None],
    ) -> None:
        self.program, self.parameters, self.targets = program, parameters, targets
        self.batches = [as_tuple(batch) for batch in batches]
        self.draws, self.projection, self._seed_of, self._failed = draws, projection, seed_of, failed
        self.drawn: list[Draw] = []  # one for each target whose reference must be drawn
        self.seconds = 0.0  # that all draws will take, about
        self._found: list[dict[Target, Reference | None]] = []

    @property
    def number_of_rounds(self) -> int:
        """The number of `rounds`, known after `rehearse`."""
        return self._a_minibatch * -(-len(self.batches) // size())

    @property
    def _a_minibatch(self) -> int:
        return sum(draw.count for draw in self.drawn)

    def __getitem__(self, number: int) -> dict[Target, Reference | None]:
        """Of one minibatch, once `rounds` has come to it."""
        return self._found[number]

    def rehearse(self) -> None:
        """Two trial draws of each target, which tell what must be drawn and for how long."""
        with errors_on_all_ranks(), torch.random.fork_rng(cuda_devices(self.batches[0])):
            told = [self._rehearsed(target) for target in self.targets]
        known = all_gather_object([each for each in told if each is not None])[0]  # the first rank's, that all agree
        self.drawn = [draw for draw, _ in known]
        self.seconds = sum(draw.count * seconds for draw, seconds in known) * -(-len(self.batches) // size())

    def rounds(self) -> Iterator[int]:
        """Draw the references; yields the number of draws done, the same on all ranks."""
        done = 0
        for first in range(0, len(self.batches), size()):
            mine: dict[Target, Reference | None] = {}
            steps = self._steps(first + rank())
            for _ in range(self._a_minibatch):
                with errors_on_all_ranks():
                    mine = _one_on(steps, mine)
                done += 1
                with torch.random.fork_rng(cuda_devices(self.batches[0])):  # what is drawn meanwhile is not ours
                    yield done
            with errors_on_all_ranks():
                while steps.gi_frame is not None:
                    mine = _one_on(steps, mine)
            self._found += all_gather_object(mine)

    def _steps(self, number: int) -> Steps:
        if number >= len(self.batches):
            return {}
        torch.manual_seed(self._seed_of(number))
        with buffers_restored(self.program):
            return (yield from self._draws(number, self.targets, self.draws, self._failed))

    def _draws(
        self, number: int, targets: list[Target], draws: int, failed: Callable[[Target, Exception], None]
    ) -> Steps:
        batch = self.batches[number]
        return reference_draws(self.program, self.parameters, batch, targets, draws, self.projection, failed)

    def _rehearsed(self, target: Target) -> tuple[Draw, float] | None:
        """What is drawn and the seconds of one draw; None where nothing is drawn or it fails."""
        with buffers_restored(self.program):
            steps = self._draws(0, [target], self.draws, lambda target, error: None)
            if next(steps, None) is None:
                return None
            began = time.perf_counter()
            draw = next(steps, None)
            seconds = time.perf_counter() - began
            steps.close()
        return None if draw is None else (draw, seconds)


def _one_on(steps: Steps, found: dict[Target, Reference | None]) -> dict[Target, Reference | None]:
    """Advance one step; returns the result at the end."""
    try:
        next(steps)
    except StopIteration as end:
        return found if end.value is None else end.value
    return found
