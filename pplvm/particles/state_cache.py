"""A cache keyed by the Python state of a program: attributes, modes and arguments.

A program may do anything else once a number kept on a module, its mode (train, eval) or its kind of arguments changes,
and what was found without gradients, or of frozen parameters, says little of those that learn.
"""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from pplvm.particles.python_state import PythonState, UnwatchedCache

__all__ = ["StateCache"]

Found = TypeVar("Found")

MOST = 16
"""States that are remembered."""


class StateCache(UnwatchedCache, Generic[Found]):
    """Caches one result for each state of a program; copies start empty, since they serve other modules.

    A program whose attributes change at every call has its answer found at every call: a buffer costs none of that.
    """

    def __init__(self) -> None:
        self._programs = _Programs((), [])
        self._watch: PythonState | None = None
        self._parameters: list[dict[str, nn.Parameter | None]] = []  # of each module
        self._found: dict[tuple[Any, ...], tuple[PythonState, Found]] = {}  # each watch keeps what its numbers identify
        self.last: Found | None = None

    def __getstate__(self) -> dict[str, Any]:
        return vars(StateCache())

    def get(
        self, programs: tuple[Any, ...], modules: list[nn.Module], args: tuple, kwargs: dict, find: Callable[[], Found]
    ) -> Found:
        """The cached result for the programs' present state; computed if there is none.

        Arguments:
            programs: model and guide.
            modules: that they are methods of.
            args, kwargs: what they are called with, of which the kinds count, not the values.
            find: the answer.
        """
        if self._programs.programs != programs:
            self._programs, self._watch, self._parameters, self._found = _Programs(programs, modules), None, [], {}
        key = self._key(args, kwargs)
        if key not in self._found:
            found = find()  # which may make what is made on a first batch
            self._watch = PythonState(self._programs)
            self._parameters = [each._parameters for each in self._programs.modules()]
            self._found[self._key(args, kwargs)] = self._watch, found
            while len(self._found) > MOST:
                self._found.pop(next(iter(self._found)))
            self.last = found
        else:
            self.last = self._found[key][1]
        return self.last

    def _key(self, args: tuple, kwargs: dict) -> tuple[Any, ...]:
        kinds = (*map(_kind, args), *((name, _kind(each)) for name, each in sorted(kwargs.items())))
        learning = tuple([p is not None and p.requires_grad for store in self._parameters for p in store.values()])
        return kinds, torch.is_grad_enabled(), learning, () if self._watch is None else self._watch.values()


class _Programs(nn.Module):
    """A module that holds everything on which programs depend."""

    def __init__(self, programs: tuple[Any, ...], modules: list[nn.Module]) -> None:
        super().__init__()
        self.owners, self.programs = nn.ModuleList(modules), programs


def _kind(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.dtype, value.device, value.dim()
    return value if type(value) in (type(None), bool, str) else type(value)
