"""Finds the first site of a program whose parameters, value or log-density are NaN or infinite, and the row.

The program is run once more without validation, each site looked at before it is drawn and after.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine import Trace
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from torch.distributions import Distribution, constraints

__all__ = ["first_nonfinite", "first_nonfinite_gradient", "first_nonfinite_row", "first_row", "observed_nan"]

Program = Callable[..., Any]

BOUNDED = "as softplus(h) + 1e-4 or h.clamp(-10, 10).exp()"
NAN = "look for a division by 0, or a log or sqrt of 0 or less, in what it is computed from"

DRAWS = 3
"""Runs that look for a fault, as some draws meet it and others do not."""


def first_nonfinite(programs: dict[str, Program], args: tuple, kwargs: dict) -> str | None:
    """The first non-finite number of a program, with site, row and a hint; None if there is none.

    The random state moves, and buffers if the program moves them: the caller restores them.

    Arguments:
        programs: "guide" and "model", either or both; the model is replayed against the guide.
    """
    with torch.no_grad(), _unvalidated():
        for may_be_impossible in (True, False):  # a log-density of -inf is a cause only where there is no other
            for _ in range(DRAWS):
                try:
                    _traces(programs, args, kwargs, lambda role, may=may_be_impossible: _NonFiniteCheck(role, may))
                except _NonFiniteFound as found:
                    return str(found)
                except (ArithmeticError, RuntimeError, ValueError, LookupError):  # the program's own, told elsewhere
                    return None
    return None


def first_nonfinite_gradient(
    programs: dict[str, Program], parameters: Sequence[Tensor], args: tuple, kwargs: dict
) -> str | None:
    """The first site whose log-density has a non-finite gradient, with row and hint; as `first_nonfinite`."""
    with torch.enable_grad(), _unvalidated():
        if (found := _nonfinite_gradient(programs, parameters, args, kwargs)) is None:
            return None
        B = len(args[0])
        low, high = 0, B  # a slope of infinity spoils the gradient of every datum beside it: they are run apart
        while high - low > 1:
            middle = (low + high) // 2
            halves = [_rows(args, B, rows) for rows in (slice(low, middle), slice(middle, high))]
            steep = [_nonfinite_gradient(programs, parameters, half, kwargs) == found for half in halves]
            if not any(steep):  # it is no single datum's
                break
            low, high = (low, middle) if steep[0] else (middle, high)
    return (
        f"the gradient of the log-density of {found} is not finite{_in(low if high - low == 1 else None)}: keep what a "
        "sqrt, a log, a norm or a division reads off 0, in the branch that torch.where does not take, too"
    )


def _nonfinite_gradient(
    programs: dict[str, Program], parameters: Sequence[Tensor], args: tuple, kwargs: dict
) -> str | None:
    try:
        traces = _traces(programs, args, kwargs, lambda role: contextlib.nullcontext())
        for role, trace in traces.items():
            for name, site in trace.nodes.items():
                if site["type"] != "sample" or site_is_subsample(site):
                    continue
                density = site["fn"].log_prob(site["value"]).sum()
                if density.requires_grad:
                    found = torch.autograd.grad(density, list(parameters), retain_graph=True, allow_unused=True)
                    if not all(bool(each.isfinite().all()) for each in found if each is not None):
                        return f"{role} site {name!r}"
    except (ArithmeticError, RuntimeError, ValueError, LookupError):  # the program's own, told elsewhere
        pass
    return None


def _rows(args: tuple, batch: int, rows: slice) -> tuple:
    return tuple(each[rows] if isinstance(each, Tensor) and each.shape[:1] == (batch,) else each for each in args)


@contextlib.contextmanager
def _unvalidated() -> Iterator[None]:
    """Within this context distributions are not validated; the settings and Pyro's parameter store are restored."""
    before = Distribution._validate_args
    try:
        with pyro.get_param_store().scope(), pyro.validation_enabled(False):
            yield
    finally:
        Distribution.set_default_validate_args(before)


def _traces(programs: dict[str, Program], args: tuple, kwargs: dict, look: Callable[[str], Any]) -> dict[str, Trace]:
    found: dict[str, Trace] = {}
    for role in ("guide", "model"):
        if role in programs:
            with look(role):
                drawn = found.get("guide", Trace())
                found[role] = poutine.trace(poutine.replay(programs[role], trace=drawn)).get_trace(*args, **kwargs)
    return found


def first_row(bad: Tensor, event_dim: int) -> int | None:
    """The first true row of a mask (..., B, event...); None if it belongs to no single row."""
    rows = bad.flatten(bad.dim() - event_dim).any(-1) if event_dim else bad  # (..., B)
    if rows.dim() == 0:
        return None
    rows = rows.reshape(-1, rows.shape[-1]).any(0)
    return None if bool(rows.all()) and len(rows) > 1 else int(rows.nonzero()[0])


def first_nonfinite_row(args: tuple) -> int | None:
    """The first row of the first argument with NaN or infinity."""
    for x in args:
        if isinstance(x, Tensor) and x.dim():
            bad = x.isfinite().logical_not()[:, None].flatten(1).any(1)  # (B,)
            if bad.any():
                return int(bad.nonzero()[0])
    return None


def observed_nan(role: str, site: Any) -> str | None:
    """What is wrong with an observed value that holds NaN, masked or not; None if it holds none."""
    value = site["value"]
    if not isinstance(value, Tensor) or not bool((bad := value.isnan()).any()):
        return None
    found = f"{role} site {site['name']!r} holds NaN{_in(first_row(bad, site['fn'].event_dim))}"
    if site["mask"] is None and not any(hasattr(fn, "_mask") for fn in _layers(site["fn"])):
        return f"{found}: remove or repair it"
    return (
        f"{found}, and a mask hides a density but not its gradient: put any finite number there, as "
        "torch.where(mask, x, 0)"
    )


class _NonFiniteFound(Exception):
    """Raised to stop the run once a non-finite number is found."""


class _NonFiniteCheck(Messenger):
    """A Pyro messenger that stops at the first site with non-finite numbers.

    Arguments:
        may_be_impossible: whether a log-density of -inf passes.
    """

    def __init__(self, role: str, may_be_impossible: bool) -> None:
        super().__init__()
        self.role, self.may_be_impossible = role, may_be_impossible

    def _pyro_sample(self, msg: Any) -> None:
        if not site_is_subsample(msg):
            for sentence in _bad_parameters(msg["fn"], f"{self.role} site {msg['name']!r}"):
                raise _NonFiniteFound(sentence)

    def _pyro_post_sample(self, msg: Any) -> None:
        if site_is_subsample(msg) or not isinstance(msg["value"], Tensor):
            return
        where, fn, value = f"{self.role} site {msg['name']!r}", msg["fn"], msg["value"]
        if msg["is_observed"] and (held := observed_nan(self.role, msg)) is not None:
            raise _NonFiniteFound(held)
        if value.is_floating_point() and bool((bad := ~value.isfinite()).any()):
            what = f"{where} {'observes' if msg['is_observed'] else 'draws'} {_number_in_words(value[bad])}"
            cure = "remove or repair it" if msg["is_observed"] else f"bound its location and scale, {BOUNDED}"
            raise _NonFiniteFound(f"{what}{_in(first_row(bad, fn.event_dim))}: {cure}")
        density = fn.log_prob(value)
        bad = density.isnan() | (density == torch.inf) if self.may_be_impossible else ~density.isfinite()
        if bool(bad.any()):
            what = f"the log-density of {where} is {_number_in_words(density[bad])}{_in(first_row(bad, 0))}"
            raise _NonFiniteFound(f"{what}: {_cure_of_density(fn)}")


def _bad_parameters(fn: Distribution, where: str) -> Iterator[str]:
    """What is wrong with the parameters of a site's distribution, a sentence each."""
    *_, single = _layers(fn)
    outer = max(len(single.batch_shape) - len(fn.batch_shape), 0)  # dimensions that .to_event() made the datum's
    try:
        known: dict[str, Any] = dict(single.arg_constraints)
    except (AttributeError, NotImplementedError):
        return
    for name, constraint in known.items():
        value = vars(single).get(name)
        if not isinstance(value, Tensor):  # one of two parametrizations, or a number
            continue
        bad = value.isnan() if name == "logits" else ~value.isfinite()  # -inf rules a state out
        misfits = bad if constraints.is_dependent(constraint) else ~constraint.check(value)
        bad = bad | misfits if bad.shape == misfits.shape else bad if bool(bad.any()) else misfits
        if not bool(bad.any()):
            continue
        own = value.dim() - bad.dim()  # dimensions of a vector or matrix that is right or wrong as one
        event_dim = outer + (0 if constraints.is_dependent(constraint) else constraint.event_dim) - own
        row = first_row(bad, min(event_dim, bad.dim()))
        yield f"the {name} of {where} is {_number_in_words(value[bad])}{_in(row)}: {_cure(constraint, value[bad])}"


def _cure(constraint: Any, bad: Tensor) -> str:
    if bool(bad.isnan().any()):
        return NAN
    if hasattr(constraint, "lower_bound") and not hasattr(constraint, "upper_bound"):
        return f"{'bound it' if bool(((bad == 0) | bad.isinf()).all()) else 'make it positive'}, {BOUNDED}"
    if bool(bad.isinf().any()):
        return "bound what it is computed from, as h.clamp(-10, 10)"
    return f"it must satisfy {constraint}: map it there, or give logits for probabilities"


def _cure_of_density(fn: Any) -> str:
    """A hint where the square of a scale over- or underflows."""
    *_, single = _layers(fn)
    scale = vars(single).get("scale")
    if isinstance(scale, Tensor) and not bool((square := scale.square()).isfinite().logical_and(square > 0).all()):
        return f"the square of its scale is 0 or infinite: bound it, {BOUNDED}"
    return (
        "keep its value off the ends of its support, and its parameters from probabilities of 0, as "
        "logits.clamp(-10, 10)"
    )


def _layers(fn: Any) -> Iterator[Any]:
    yield fn
    while hasattr(fn, "base_dist"):
        yield (fn := fn.base_dist)


def _number_in_words(bad: Tensor) -> str:
    """A number that is wrong; of a scale that is both too small and too large, both."""
    found = dict.fromkeys(f"{value:g}" for value in bad.flatten()[:1000].tolist())
    return " or ".join(list(found)[:2]) if len(found) <= 2 else next(iter(found))


def _in(row: int | None) -> str:
    return " in all rows" if row is None else f" in row {row}"
