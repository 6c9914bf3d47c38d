"""A training run that can stop after any step and resume bit-identically."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

from pplvm.batch import Batch
from pplvm.distributed.collectives import all_gather_rows
from pplvm.distributed.ranks import rank, size
from pplvm.training.random_state import check_random_state, random_state, restore_random_state
from pplvm.training.stepper import Step, Stepper

__all__ = ["Rule", "Run", "Stateful"]

Rule = Callable[[Stepper, Batch], Step]
"""How one batch is spent: `Stepper.__call__`, all optimizers moving once, or a rule such as `Aggressive`."""


class Stateful(Protocol):
    """Anything with a state_dict of tensors and primitives."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Run:
    """Counts steps, and holds in one state all that the next step depends on.

    Iterated over, it takes a step for each batch that is left; `advance` takes one.

    Arguments:
        stepper: takes the steps.
        batches: x (B, ...) or (x, y, ...) each. `advance` and `state_dict` need a stream without end that knows where
            it is, as `pplvm.data.epochs.Epochs` does.
        rule: how one batch is spent.
        parts: what else has a state to keep, by name: the rule, its own batches, early stopping.
    """

    def __init__(
        self,
        stepper: Stepper,
        batches: Iterable[Batch],
        rule: Rule = Stepper.__call__,
        parts: Mapping[str, Stateful] | None = None,
    ) -> None:
        self.stepper, self.rule = stepper, rule
        self.batches: Any = batches
        self.parts: dict[str, Any] = {"stepper": stepper, "batches": batches, **(parts or {})}
        self.step = 0
        self.x: Batch | None = None  # the last batch

    def __iter__(self) -> Iterator[Step]:
        """Steps, one a batch; the loss is in training mode as they begin.

        Raises:
            FloatingPointError: numbers that are not finite, with the number of the step, from 0; the parameters are
                those from before.
        """
        self.stepper.loss.train()
        for batch in self.batches:
            try:
                step = self._take(batch)
            except FloatingPointError as error:
                raise type(error)(f"step {self.step}: {error}") from error
            yield step

    def advance(self) -> Step:
        """Take one step of the rule on the next batch.

        Raises:
            FloatingPointError: numbers that are not finite; the parameters are those from before.
        """
        self.stepper.loss.train()
        return self._take(next(self.batches))

    def _take(self, batch: Batch) -> Step:
        self.x = batch
        step = self.rule(self.stepper, batch)
        self.stepper.end_step()
        self.step += 1
        return step

    def state_dict(self) -> dict[str, Any]:
        """The state as tensors and primitives; every rank must call it, as its random state is part of it."""
        own = {name: all_gather_rows(value[None], size()) for name, value in random_state().items()}
        return {
            "step": self.step,
            "random": [{name: value[i] for name, value in own.items()} for i in range(size())],
            "parts": {name: part.state_dict() for name, part in self.parts.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state; with another number of ranks than it was saved by, the noise differs.

        Raises:
            KeyError: a part is missing. ValueError: a random state is none. Whatever else a part raises.
        """
        if not state["random"]:
            raise ValueError("it holds no random state")
        for each in state["random"]:  # of all ranks, so that all refuse it alike
            check_random_state(each)
        for name, part in self.parts.items():
            part.load_state_dict(state["parts"][name])
        self.step = int(state["step"])
        if len(state["random"]) == size():
            restore_random_state(state["random"][rank()])
