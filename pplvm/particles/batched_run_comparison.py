"""Compares a batched run of many particles or states with a single run of each."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from pyro import poutine
from pyro.distributions.util import broadcast_shape
from pyro.poutine import Trace
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from pplvm.particles.contract import ProgramError, latents
from pplvm.particles.faulty_layer import LayerRecorder, Location, error_location, first_difference, within_rounding
from pplvm.particles.isolated_run import MeanNoiseMode, isolated
from pplvm.particles.pair import Pair, owners
from pplvm.particles.shape_hints import shape_hint

__all__ = ["BatchedRunComparison"]


@dataclass
class BatchedRunComparison:
    """A batched run and the single runs that it must agree with."""

    what: str  # many at once, in words
    alone: str
    pair: Pair
    num_particles: int
    args: tuple
    kwargs: dict
    progress: "_Progress" = field(default_factory=lambda: _Progress())

    def fault(self, draw: Callable[[], Trace]) -> str | None:
        """The first site that differs or fails, in a sentence.

        Arguments:
            draw: runs the program with many at once and gives its latents.
        """
        try:
            with self.contained(), self.progress:
                held = draw()
        except (ProgramError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            return self._failure(error) if self._runs_alone() else None
        if not latents(held):
            return None
        sizes = _sizes(self.pair, held)
        ones = {index: _taken(self.pair, held, index) for index in _corners(sizes)}
        faults = (self._fault_of(role, held, ones, sizes) for role in self.programs)
        return next((fault for fault in faults if fault is not None), None)

    def _fault_of(self, role: str, held: Trace, ones: Mapping[tuple[int, ...], Trace], sizes: tuple) -> str | None:
        try:
            alone = {index: self.terms(role, one, 1) for index, one in ones.items()}
        except Exception:  # a flow without inverse knows the density of a draw that it has just made, no other
            return None
        try:
            together = self.terms(role, held, self.num_particles, sizes)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            return self._failure(error)
        for index, terms in alone.items():
            for name, term in terms.items():
                apart = ~within_rounding(term, together[name][index])
                if apart.any() and self.repeats(role, ones[index], name):
                    row = int(apart.nonzero()[0])
                    figures = float(together[name][index][row]), float(term[row])
                    place = self._layer(role, held, ones[index], sizes, index)
                    return self._difference(f"{role} site {name!r}", row, figures, place)
        return None

    @property
    def programs(self) -> dict[str, Callable[..., Any]]:
        """Guide and model by role."""
        both = {"guide": self.pair.guide, "model": self.pair.model}
        return {role: program for role, program in both.items() if program is not None}

    def contained(self) -> Any:
        return isolated(self.pair, self.args, self.kwargs)

    def terms(
        self, role: str, held: Trace, num_particles: int, sizes: tuple[int, ...] = (), as_it_is: bool = False
    ) -> dict[str, Tensor]:
        """The log-densities of a program's sites at given draws, each (*sizes, B)."""
        with self.contained():
            return self._terms(role, held, num_particles, sizes, as_it_is)

    def repeats(self, role: str, held: Trace, name: str, as_it_is: bool = False) -> bool:
        """Whether a second run gives a site the same densities, so that noise explains no difference.

        Arguments:
            as_it_is: with torch's noise the same in both runs, and not what noise there is beside its mean.
        """
        first = self.terms(role, held, 1, as_it_is=as_it_is)[name]
        with self.contained():
            for device in {x.device for x in (torch.zeros(()), *self.args) if isinstance(x, Tensor) and not as_it_is}:
                torch.rand(1, device=device)
            again = self._terms(role, held, 1, (), as_it_is)[name]
        return bool(within_rounding(first, again).all())

    def _terms(
        self, role: str, held: Trace, num_particles: int, sizes: tuple[int, ...], as_it_is: bool
    ) -> dict[str, Tensor]:
        replayed = poutine.replay(self.programs[role], trace=held)
        with self.progress, nullcontext() if as_it_is else MeanNoiseMode():
            terms = self.pair.site_terms(self.pair.run(replayed, num_particles, self.args, self.kwargs))
        found = {}
        for name, term in terms.items():
            self.progress.site = name
            found[name] = term.expand(*sizes, -1)
        return found

    def _runs_alone(self) -> bool:
        try:
            with self.contained():
                drawn = self.pair.run_guide(1, self.args, self.kwargs) if self.pair.guide is not None else None
                self.pair.site_terms(self.pair.run_model(1, drawn, self.args, self.kwargs))
        except Exception:
            return False
        return True

    def _layer(self, role: str, held: Trace, one: Trace, sizes: tuple[int, ...], index: tuple[int, ...]) -> Location:
        with LayerRecorder() as together:
            self.terms(role, held, self.num_particles, sizes)
        with LayerRecorder() as alone:
            self.terms(role, one, 1)
        return first_difference(together, alone, sizes, index, self._names)

    def _difference(self, site: str, row: int, figures: tuple[float, float], place: Location) -> str:
        return (
            f"{self.what}, {site} gives datum {row} a log-density of {figures[0]:.4g}, and of {figures[1]:.4g} at the "
            f"same draw {self.alone}{'; ' * bool(place.words)}{place.words}: {shape_hint(place)}"
        )

    def _failure(self, error: Exception) -> str:
        said = " ".join(str(error).partition("Trace Shapes:")[0].split()) or type(error).__name__
        reached = f" after site {self.progress.site!r}" if self.progress.site else ""
        place = error_location(error, self._names)
        return f"{self.what}, the program fails{reached}{place.words} ({said.rstrip('.')}): {shape_hint(place, said)}"

    @property
    def _names(self) -> dict[int, str]:
        modules = (named for owner in owners(self.pair.model, self.pair.guide) for named in owner.named_modules())
        return {id(module): path for path, module in modules if path}


class _Progress(Messenger):
    """A Pyro messenger that remembers the last site that a program reached."""

    def __init__(self) -> None:
        super().__init__()
        self.site = ""

    def _pyro_post_sample(self, msg: Any) -> None:
        if not site_is_subsample(msg):
            self.site = msg["name"]


def _sizes(pair: Pair, held: Trace) -> tuple[int, ...]:
    """The sizes of the dimensions left of the plates."""
    left = [s["value"].shape[: s["value"].dim() - pair.nesting - s["fn"].event_dim] for s in latents(held).values()]
    return tuple(broadcast_shape(*left))


def _corners(sizes: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Indices to try: the first, the last, and alternating ones.

    Example:
        >>> _corners((2,)), _corners((3, 2))
        ([(0,), (1,)], [(0, 0), (2, 1), (0, 1)])
    """
    first, last = tuple(0 for _ in sizes), tuple(size - 1 for size in sizes)
    return list(dict.fromkeys([first, last, tuple((n % 2) * place for n, place in enumerate(last))]))


def _taken(pair: Pair, held: Trace, index: tuple[int, ...]) -> Trace:
    """One element of a batched run, as a run of one particle would draw it."""
    one = held.copy()
    for name, site in latents(held).items():
        value, event = site["value"], site["fn"].event_dim
        while (left := value.dim() - pair.nesting - event) > 0:
            value = value[index[-left] if len(value) > 1 else 0]
        sizes = {f.dim: f.size for f in site["cond_indep_stack"] if f.vectorized and f.dim >= -pair.nesting}
        plates = [sizes.get(dim, 1) for dim in range(min(sizes), 0)]
        value = value[(0,) * (value.dim() - len(plates) - event)]
        one.nodes[name] = dict(site, value=value.expand(*plates, *value.shape[value.dim() - event :]))
    return one
