"""Particles, states and data that share a run, held against runs of their own: each must have the same densities.

K particles stand in a dimension left of all plates, the states of latents that are summed out in further ones left
of it, data side by side in the batch. A program that counts dimensions from the left, or normalizes over the batch,
mixes them without an error.
"""

from collections.abc import Callable, Collection
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

from pplvm.particles.containment import Still, contained
from pplvm.particles.contract import ProgramError, Site, latents
from pplvm.particles.enumeration import extreme_states, is_enumerable, next_state
from pplvm.particles.layers import Calls, Place, first_apart, place_of, within_rounding
from pplvm.particles.pair import Pair, owners

__all__ = ["data_disagree", "particles_disagree", "refuse", "states_disagree"]

PARTICLES = 2
"""Particles at once, the fewest that are many."""

WRAP = "wrap it as pplvm.LeadingDims(layer, n), n the dimensions of one input, or count its dimensions from the right"

COUNT = (
    "count dimensions from the right and keep those of plates, as z.sum(-2, keepdim=True) and not z.sum(0), and give "
    "what is joined with a draw the draw's dimensions, as x.expand(*z.shape[:-1], -1)"
)

Terms = dict[tuple[str, str], Tensor]
"""Log-densities by role and site, (..., B)."""


def particles_disagree(pair: Pair, args: tuple, kwargs: dict) -> str | None:
    """Why K > 1 particles cannot run at once, in a sentence; None if each has the densities that it has alone.

    Noise beside the sites is held at its mean and batch normalization at fixed statistics. Leaves no trace.

    Example:
        >>> import pyro, pyro.distributions as dist
        >>> def model(x):
        ...     with pyro.plate("batch", len(x)):
        ...         z = pyro.sample("z", dist.Normal(0.0, 1.0))
        ...         pyro.sample("x", dist.Normal(z - z.mean(0) if z.dim() > 1 else z, 1.0), obs=x)
        >>> print(particles_disagree(Pair(model, None, nesting=1), (torch.zeros(3),), {}).split(",")[0])
        with K > 1 particles at once
    """

    def draw() -> Trace:
        drawn = pair.run_guide(PARTICLES, args, kwargs) if pair.guide is not None else None
        return _held(drawn, pair.run_model(PARTICLES, drawn, args, kwargs))

    what, alone = "with K > 1 particles at once", "one by one"
    return _Comparison(what, alone, pair, PARTICLES, args, kwargs).fault(draw)


def states_disagree(
    pair: Pair, args: tuple, kwargs: dict, num_particles: int = 1, *, of_guide: bool = False
) -> str | None:
    """Why discrete latents cannot be summed out, in a sentence; None if each state has the densities it has alone.

    Arguments:
        num_particles: of the latents that are drawn; more than one are run as two.
        of_guide: whether the guide's latents are summed out, and not those of the model that the guide leaves out.

    Raises:
        ProgramError: a latent is continuous, or there are too many states.
    """
    K = min(num_particles, PARTICLES)

    def draw() -> Trace:
        if pair.guide is None:
            return _held(extreme_states(pair, pair.model, K, args, kwargs))
        if of_guide:
            drawn = extreme_states(pair, pair.guide, 1, args, kwargs)
        else:
            drawn = pair.run_guide(K, args, kwargs)
        return _held(drawn, extreme_states(pair, poutine.replay(pair.model, trace=drawn), K, args, kwargs))

    what = "with the states of a discrete latent in a dimension of their own, to sum it out"
    return _Comparison(what, "state by state", pair, K, args, kwargs).fault(draw)


def data_disagree(pair: Pair, args: tuple, kwargs: dict, names: Collection[str] | None = None) -> str | None:
    """Why a datum's draws are to blame for other data's densities, in a sentence; None if they are not.

    Half of the batch keeps its draws while those of the others change. Leaves no trace.

    Arguments:
        names: of the latents that change; all unless given.
    """
    comparison = _Comparison("", "", pair, 1, args, kwargs)
    with comparison.contained():
        drawn = pair.run_guide(1, args, kwargs) if pair.guide is not None else None
        held = _held(drawn, pair.run_model(1, drawn, args, kwargs))
    changed, rows = held.copy(), list[int]()
    for name, site in latents(held).items():
        if names is None or name in names:
            rows = _changed_rows(site)
            changed.nodes[name] = dict(site, value=_with_other_draws(site, rows))
    if not rows:
        return None
    before, after = (comparison.terms(trace, 1, as_it_is=True) for trace in (held, changed))
    for (role, name), term in before.items():
        other = after[role, name]
        apart = ~within_rounding(term, other, digits=0.75)
        apart[rows] = False
        if apart.any() and comparison.repeats(held, (role, name), as_it_is=True):
            row = int(apart.nonzero()[0])
            return (
                f"{role} site {name!r} gives datum {row} a log-density of {float(term[row]):.4g}, and of "
                f"{float(other[row]):.4g} when other data of the batch have other draws, as batch normalization in "
                "train mode does: put such layers in evaluation mode (layer.eval()), or normalize each datum by itself "
                "(GroupNorm, LayerNorm)"
            )
    return None


def refuse(fault: str | None) -> None:
    """Raise what a check found.

    Raises:
        ProgramError: it found a fault.
    """
    if fault is not None:
        raise ProgramError(fault)


@dataclass
class _Comparison:
    """A run of many at once and runs of one."""

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
            if not latents(held):
                return None
            sizes = _sizes(self.pair, held)
            together = self.terms(held, self.num_particles, sizes)
        except (ProgramError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            return self._failure(error) if self._runs_alone() else None
        for index in _corners(sizes):
            one = _taken(self.pair, held, index)
            for key, term in self.terms(one, 1).items():
                apart = ~within_rounding(term, together[key][index])
                if apart.any() and self.repeats(one, key):
                    row = int(apart.nonzero()[0])
                    figures = float(together[key][index][row]), float(term[row])
                    return self._difference(key, row, figures, self._layer(held, one, sizes, index))
        return None

    def contained(self) -> Any:
        return contained(self.pair, self.args, self.kwargs)

    def terms(self, held: Trace, num_particles: int, sizes: tuple[int, ...] = (), as_it_is: bool = False) -> Terms:
        """The densities of all sites at given draws, (*sizes, B)."""
        with self.contained():
            return self._terms(held, num_particles, sizes, as_it_is)

    def repeats(self, held: Trace, key: tuple[str, str], as_it_is: bool = False) -> bool:
        """Whether a site of one run has the same densities under other noise, so that noise explains nothing."""
        first = self.terms(held, 1, as_it_is=as_it_is)[key]
        with self.contained():
            for x in (torch.zeros(()), *self.args):
                if isinstance(x, Tensor):
                    torch.rand(1, device=x.device)
            again = self._terms(held, 1, (), as_it_is)[key]
        return bool(within_rounding(first, again).all())

    def _terms(self, held: Trace, num_particles: int, sizes: tuple[int, ...], as_it_is: bool) -> Terms:
        found: Terms = {}
        programs = {"guide": self.pair.guide, "model": self.pair.model}
        for role, program in programs.items():
            if program is None:
                continue
            replayed = poutine.replay(program, trace=held)
            with self.progress:
                with nullcontext() if as_it_is else Still():
                    terms = self.pair.site_terms(self.pair.run(replayed, num_particles, self.args, self.kwargs))
            for name, term in terms.items():
                self.progress.site = name
                found[role, name] = term.expand(*sizes, -1)
        return found

    def _runs_alone(self) -> bool:
        try:
            with self.contained():
                drawn = self.pair.run_guide(1, self.args, self.kwargs) if self.pair.guide is not None else None
                self.pair.site_terms(self.pair.run_model(1, drawn, self.args, self.kwargs))
        except Exception:
            return False
        return True

    def _layer(self, held: Trace, one: Trace, sizes: tuple[int, ...], index: tuple[int, ...]) -> Place:
        with Calls() as together:
            self.terms(held, self.num_particles, sizes)
        with Calls() as alone:
            self.terms(one, 1)
        return first_apart(together, alone, sizes, index, self._names)

    def _difference(self, key: tuple[str, str], row: int, figures: tuple[float, float], place: Place) -> str:
        role, name = key
        return (
            f"{self.what}, {role} site {name!r} gives datum {row} a log-density of {figures[0]:.4g}, and of "
            f"{figures[1]:.4g} at the same draw {self.alone}{'; ' * bool(place.words)}{place.words}: "
            f"{WRAP if place.is_torchs else COUNT}"
        )

    def _failure(self, error: Exception) -> str:
        said = " ".join(str(error).partition("Trace Shapes:")[0].split()) or type(error).__name__
        reached = f" after site {self.progress.site!r}" if self.progress.site else ""
        place = place_of(error, self._names)
        cure = WRAP if place.is_torchs else COUNT
        return f"{self.what}, the program fails{reached}{place.words} ({said.rstrip('.')}): {cure}"

    @property
    def _names(self) -> dict[int, str]:
        modules = (named for owner in owners(self.pair.model, self.pair.guide) for named in owner.named_modules())
        return {id(module): path for path, module in modules if path}


class _Progress(Messenger):
    """Remembers the site that a program reached last."""

    def __init__(self) -> None:
        super().__init__()
        self.site = ""

    def _pyro_post_sample(self, msg: Any) -> None:
        if not site_is_subsample(msg):
            self.site = msg["name"]


def _held(*traces: Trace | None) -> Trace:
    """The latents of traces, and the rows that plates chose."""
    held = Trace()
    for trace in traces:
        for name, site in trace.nodes.items() if trace is not None else ():
            if site["type"] == "sample" and (site_is_subsample(site) or not site["is_observed"]):
                held.nodes.setdefault(name, site)
    return held


def _sizes(pair: Pair, held: Trace) -> tuple[int, ...]:
    """Sizes of the dimensions left of the plates."""
    left = [s["value"].shape[: s["value"].dim() - pair.nesting - s["fn"].event_dim] for s in latents(held).values()]
    return tuple(broadcast_shape(*left))


def _corners(sizes: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The first index, the last, and one of first and last in turns.

    Example:
        >>> _corners((2,)), _corners((3, 2))
        ([(0,), (1,)], [(0, 0), (2, 1), (0, 1)])
    """
    first, last = tuple(0 for _ in sizes), tuple(size - 1 for size in sizes)
    return list(dict.fromkeys([first, last, tuple((n % 2) * place for n, place in enumerate(last))]))


def _taken(pair: Pair, held: Trace, index: tuple[int, ...]) -> Trace:
    """One of many, its values as a run of one particle would draw them."""
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


def _changed_rows(site: Site) -> list[int]:
    """Half of the data: those whose number has an odd count of binary ones, so that near and far pairs are parted."""
    (B,) = (frame.size for frame in site["cond_indep_stack"] if frame.dim == -1)
    return [row for row in range(B) if row.bit_count() % 2]


def _with_other_draws(site: Site, rows: list[int]) -> Tensor:
    """A draw of which some rows become the first row's, or the next state where all have that already."""
    value, fn = site["value"], site["fn"]
    dim = value.dim() - 1 - fn.event_dim
    other = value.narrow(dim, 0, 1).expand_as(value)
    if fn.support.is_discrete and other.equal(value):
        other = next_state(fn, value) if is_enumerable(site) else value + 1
    chosen = torch.tensor(rows, dtype=torch.long, device=value.device)
    return value.index_copy(dim, chosen, other.index_select(dim, chosen).to(value))
