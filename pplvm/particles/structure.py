"""The structure of a trace: sites, roles, shapes and plates, without reading values from the device.

What was checked, or found out, holds for runs of one structure; a run of another is checked as the first was.
"""

from collections.abc import Callable, Iterable
from typing import Any

from pyro.poutine import Trace

from pplvm.particles.contract import ProgramError, Site, coordinates, sample_sites
from pplvm.particles.masks import is_masked

__all__ = ["Structure", "Structures", "structure"]

Structure = tuple[tuple[Any, ...], ...]
"""A row a site, in program order: its role, its name, and what `structure` says of it."""

ASPECTS = ("role", "name", "is observed", "distribution", "event shape", "mask", "auxiliary", "rule", "plates")

MOST = 64
"""Structures that are remembered; a program with more, one for each length of a sentence say, is checked more often."""


def structure(model: Trace, guide: Trace | None = None) -> Structure:
    """The structure of one run of a program, independent of the numbers of particles and data."""
    traces = {"guide": guide, "model": model}
    return tuple(
        (role, name, *_aspects(site))
        for role, trace in traces.items()
        if trace is not None
        for name, site in sample_sites(trace).items()
    )


class Structures:
    """The structures that a program was checked for, with caches for each.

    Arguments:
        seen: of the runs that were checked first.
        nesting: plates a site of theirs is in, at most.
        check: checks the program on a batch (args, kwargs) as it was checked first, and returns what has its own
            `structures`, the pair as it would be on this batch.
    """

    def __init__(self, seen: Iterable[Structure], nesting: int, check: Callable[[tuple, dict], Any]) -> None:
        self._found: dict[Structure, dict[Any, Any]] = {each: {} for each in seen}
        self.nesting, self.check = nesting, check

    def require(self, found: Structure, args: tuple, kwargs: dict) -> None:
        """Accept a trace whose structure was checked; otherwise check the program on its batch.

        Raises:
            ProgramError: the program breaks a rule on this batch, nests plates deeper than before, or has a structure
                that depends on what it draws.
        """
        if found in self._found:
            return
        checked: Structures = self.check(args, kwargs).structures
        if found not in checked._found:
            raise ProgramError(
                f"two runs on the same batch differ: {difference(next(iter(checked._found)), found)}; let the data or "
                "attributes of the program decide which sites there are, not what is drawn"
            )
        if checked.nesting > self.nesting:
            raise ProgramError(
                f"on this batch a site is in {checked.nesting} plates, on the first in {self.nesting} at most: put "
                "the batch that nests deepest first, or give labels and the like as further arguments, model(x, y)"
            )
        self._found |= {each: {} for each in checked._found if each not in self._found}
        while len(self._found) > MOST:
            self._found.pop(next(iter(self._found)))

    def memory(self, of: Structure) -> dict[Any, Any]:
        """The cache of one structure for one question."""
        return self._found.setdefault(of, {})


def difference(before: Structure, after: Structure) -> str:
    """The first difference between two structures, in words."""
    for a, b in zip(before, after, strict=False):
        if a[:2] != b[:2]:
            break
        for aspect, one, other in zip(ASPECTS, a, b, strict=True):
            if one != other:
                return f"{aspect} of {a[0]} site {a[1]!r} is {other}, and was {one}"
    names = [{row[:2] for row in each} for each in (before, after)]
    for told, missing in (("has", names[1] - names[0]), ("lacks", names[0] - names[1])):
        for role, name in sorted(missing):
            return f"one {told} {role} site {name!r}"
    return "their sites come in another order"


def _aspects(site: Site) -> tuple[Any, ...]:
    infer = site["infer"] or {}
    plates = sorted(
        (frame.dim, frame.name, frame.full_size if frame.full_size not in (None, frame.size) else None)
        for frame in site["cond_indep_stack"]
        if frame.vectorized and frame.name != "particles"
    )
    return (
        site["is_observed"],
        type(coordinates(site["fn"])).__name__,
        tuple(site["fn"].event_shape),
        is_masked(site),
        bool(infer.get("is_auxiliary")),
        type(infer.get("grad")).__name__,
        tuple(plates),
    )
