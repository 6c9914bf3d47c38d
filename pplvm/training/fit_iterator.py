"""The iterator that `fit` returns: it takes a training step for each loss that it yields."""

import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from types import CodeType

import torch
from torch import Tensor

from pplvm.distributed.progress import bar

__all__ = ["FitIterator"]

SECONDS_BETWEEN = 0.5
"""Two figures of a bar, as each has to wait for the step on the device."""


class FitIterator(Iterator[Tensor]):
    """An iterator over training steps; each `next` takes one step and returns its loss, detached, on its device.

    One that is thrown away before its first step warns, as nothing was trained.

    Arguments:
        losses: gives the loss of each step as it is taken.
        name: what is trained, for messages.
        planned: the number of steps, None if nobody knows.
        made_in: the code that called `fit`, which is warned if it throws the training away.
        reported: gives what stands beside the loss on a bar, by name, () each.

    Example:
        >>> training = FitIterator(iter(torch.tensor([3.0, 2.0, 1.0])), "Loss", planned=3)
        >>> training
        <fit of Loss: not started, 3 steps planned; call .run(), or loop over it: for value in ...>
        >>> training.run()
        tensor([3., 2., 1.])
        >>> training
        <fit of Loss: 3 of 3 steps taken, the last loss is 1.00>
    """

    def __init__(
        self,
        losses: Iterator[Tensor],
        name: str,
        planned: int | None = None,
        made_in: CodeType | None = None,
        reported: Callable[[], Mapping[str, Tensor]] = dict,
    ) -> None:
        self._losses, self._name, self._made_in, self._reported = losses, name, made_in, reported
        self._has_started, self._last = False, None
        self._ended_by: str | None = None
        self.planned, self.taken = planned, 0

    def __next__(self) -> Tensor:
        self._has_started = True
        if self._ended_by is not None:
            raise RuntimeError(
                f"fit of {self._name} was ended by {self._ended_by} after {self.taken} steps: call fit again, "
                "which goes on from the parameters as they are"
            )
        try:
            self._last = next(self._losses)
        except StopIteration:
            raise
        except BaseException as error:  # after which a generator has no more to give, and says nothing
            self._ended_by = type(error).__name__
            raise
        self.taken += 1
        return self._last

    def run(self, progress: bool | None = None) -> Tensor:
        """Take all remaining steps; return their losses, (steps,).

        Arguments:
            progress: show a bar, or in a file a line now and then; None for a bar on a terminal or in a notebook only.

        Raises:
            As `fit` does. RuntimeError: an error or Ctrl-C has ended it before.

        Batches without end run without end: take some by `itertools.islice`.
        """
        losses: list[Tensor] = []
        told = 0.0
        with bar("", self.planned or 0, self.taken, unit="steps", shown=progress) as shown:
            for loss in self:
                losses.append(loss.reshape(()))
                if (now := time.monotonic()) - told > SECONDS_BETWEEN:
                    told = now
                    beside = {"loss": loss, **self._reported()}
                    shown.at(self.taken, {name: float(value) for name, value in beside.items()})
        return torch.stack(losses) if losses else torch.empty(0)

    def __repr__(self) -> str:
        if not self._has_started:
            planned = "" if self.planned is None else f", {self.planned} steps planned"
            return f"<fit of {self._name}: not started{planned}; call .run(), or loop over it: for value in ...>"
        steps = f"{self.taken} steps" if self.planned is None else f"{self.taken} of {self.planned} steps"
        loss = "" if self._last is None else f", the last loss is {float(self._last):.2f}"
        return f"<fit of {self._name}: {steps} taken{loss}>"

    def __del__(self) -> None:
        if getattr(self, "_has_started", True) or sys.is_finalizing() or sys.exc_info()[0] is not None:
            return
        # After an exception it is another frame, that which caught it, that drops what this one had.
        dropped_by = sys._getframe().f_back
        if dropped_by is None or dropped_by.f_code is not self._made_in:
            return
        warnings.warn(
            f"fit of {self._name} was thrown away before its first step, so nothing was trained: "
            "write fit(...).run(), or loop over it, for value in fit(...)",
            RuntimeWarning,
            stacklevel=2,
        )
