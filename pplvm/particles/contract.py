"""The contract of programs: the rules by which they become log-weights (K, B), and the messages for broken ones."""

import re
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from typing import Any

import torch
from pyro import poutine
from pyro.distributions.rejector import Rejector
from pyro.distributions.torch_distribution import ExpandedDistribution, MaskedDistribution
from pyro.params.param_store import _MODULE_NAMESPACE_DIVIDER
from pyro.poutine import Trace
from pyro.poutine.util import site_is_subsample
from pyro.util import check_site_shape
from torch.distributions import Distribution, Independent

from pplvm.particles.density_hints import density_hint, underflow_message
from pplvm.particles.factors import factor_violations
from pplvm.particles.masks import auxiliary_mismatch, mask_mismatch
from pplvm.particles.nonfinite_sites import first_nonfinite, first_nonfinite_row, observed_nan
from pplvm.particles.point_masses import is_point
from pplvm.particles.reparameterized_sites import is_straight_through
from pplvm.particles.scales import scale_mismatches
from pplvm.particles.supports import contains, innermost, support_in_words

__all__ = [
    "ParameterError",
    "ProgramError",
    "coordinates",
    "deterministic_sites",
    "latents",
    "plate_scale",
    "sample_sites",
    "traced",
    "violations",
]

Site = Any
"""A message of a Pyro trace: a dictionary with "name", "fn", "value", "cond_indep_stack", ..."""


HINTS = {
    "Shape mismatch inside plate": "put all its other dimensions in .to_event(), or in a plate inside the batch's",
    "'has_rsample' of 'Independent'": "Pyro loses has_rsample_(False) under .to_event(); draw from a subclass with "
    "the class attribute has_rsample = False",
    "Multiple sample sites named": "give each site a name of its own, and enter a plate twice as one object, "
    'batch = pyro.plate("batch", len(x))',
    "must have the same dtype": "give the batch the dtype of the program's parameters, as x.float(), "
    "and pixels 0..255 as x.float() / 255",
    "shapes cannot be multiplied": "give the program the size of the data, and images flattened, as x.flatten(1)",
    "satisfy the constraint GreaterThan": "make it positive, as softplus(h) + 1e-4",
    "subsample_size does not match": "a batch cannot be larger than the N of the plate that it is drawn from",
    "inhomogeneous total_count": "give total_count=int(x.sum(-1).max()), the density goes by the total of each row",
    "size cannot be zero": "the batch is empty, give at least one datum",
}
"""What to do about faults that torch and Pyro themselves refuse, by words of theirs."""


NO_DENSITY = "gives its value no density"
"""Of a site: in a sentence that may blame the data, where nobody chose them."""


class ProgramError(ValueError):
    """A program cannot give per-datum log-weights; the message names the site and what to change."""


class ParameterError(ProgramError):
    """A parameter of a distribution violates its constraint, which is the program's fault on whatever data."""


def sample_sites(trace: Trace) -> dict[str, Site]:
    """The sites of a trace with a log-density: no subsampling, no `pyro.deterministic`."""
    return {
        name: site
        for name, site in trace.nodes.items()
        if site["type"] == "sample" and not site_is_subsample(site) and not (site["infer"] or {}).get("_deterministic")
    }


def deterministic_sites(trace: Trace) -> dict[str, Site]:
    """The `pyro.deterministic` sites of a trace."""
    return {name: site for name, site in trace.nodes.items() if (site.get("infer") or {}).get("_deterministic")}


def latents(trace: Trace) -> dict[str, Site]:
    """The latent sites of a trace, in program order."""
    return {name: site for name, site in sample_sites(trace).items() if not site["is_observed"]}


def coordinates(fn: Distribution) -> Distribution:
    """The distribution of single coordinates, without `.to_event()`, `.mask()` and `.expand()`."""
    while isinstance(fn, Independent | MaskedDistribution | ExpandedDistribution):
        fn = fn.base_dist
    return fn


def plate_scale(sites: list[Site]) -> float:
    """The common scale of all sites, N/B or `poutine.scale`; it multiplies the loss, not the weights.

    Raises:
        ProgramError: sites are scaled differently, or by a tensor.
    """
    first = sites[0]
    for site in sites:
        if isinstance(site["scale"], torch.Tensor) or site["scale"] != first["scale"]:
            named = [(f"site {s['name']!r}", s["scale"]) for s in (first, site)]
            raise ProgramError(next(scale_mismatches(named)))
    return float(first["scale"])


def traced(role: str, program: Callable[..., Any], args: tuple, kwargs: dict) -> Trace:
    """Trace a program, with errors as sentences.

    Raises:
        ProgramError: torch or Pyro refuse it for a reason whose cure is known, or the batch holds no numbers.
        ParameterError: a parameter of a distribution is outside its constraint.
    """
    try:
        return poutine.trace(program).get_trace(*args, **kwargs)
    except (AttributeError, RuntimeError, ValueError, ZeroDivisionError) as error:
        if (row := first_nonfinite_row(args)) is not None:
            raise ProgramError(f"row {row} of the batch holds NaN or infinity: remove or repair it") from error
        if "constraint" in str(error) and (found := first_nonfinite({role: program}, args, kwargs)) is not None:
            raise ParameterError(found) from error
        for fault, cure in HINTS.items():
            if fault in str(error):
                said = str(error).splitlines()[0].removesuffix(", but found invalid values:")
                raise ProgramError(f"{role}: {said}: {cure}") from error
        raise


def violations(
    model: Trace, guide: Trace | None, owned: set[int], summed_out: frozenset[str] = frozenset()
) -> Iterator[str]:
    """All broken rules of a program, one sentence each.

    Arguments:
        model: the model's trace, replayed against the guide's.
        guide: the guide's trace; None where no guide is used.
        owned: ids of the parameters that the program's modules own.
        summed_out: latents of the model that the guide must leave out.
    """
    traces = {"model": model} | ({"guide": guide} if guide is not None else {})
    if not any(site["is_observed"] for site in sample_sites(model).values()):
        yield "the model has no observed site: give the site that holds the data obs=x"
    if guide is not None:
        yield from _latent_mismatches(model, guide, summed_out)
        yield from factor_violations(sample_sites(guide))
        yield from auxiliary_mismatch(sample_sites(guide))
    for role, trace in traces.items():
        for site in sample_sites(trace).values():
            drawn = guide.nodes.get(site["name"]) if guide is not None and role == "model" else None
            is_told = drawn is not None and drawn["type"] == "sample" and _has_other_values(site, drawn)
            yield from _site_violations(role, site, is_told)
        yield from _second_batch_plates(role, trace)
    yield from scale_mismatches(
        [(f"{r} site {n!r}", site["scale"]) for r, t in traces.items() for n, site in sample_sites(t).items()]
    )
    for role, trace in traces.items():
        yield from _foreign_params(role, trace, owned)


def _site_violations(role: str, site: Site, is_told: bool = False) -> Iterator[str]:
    """The broken rules of a site.

    Arguments:
        is_told: whether it is known, and told, that the guide's draws are no values of this site of the model.
    """
    name = site["name"]
    frames = [frame for frame in site["cond_indep_stack"] if frame.vectorized]
    if not frames and name.startswith("_Auto") and name.endswith("_latent"):
        yield (
            f"the guide's {name[1:].removesuffix('_latent')} draws the latents of all data as one: use AutoNormal, on "
            "one batch that is always the same, or write a guide that draws them in the batch plate"
        )
        return
    if not any(frame.dim == -1 for frame in frames):
        yield (
            f"{role} site {name!r} is outside the batch plate: put it inside "
            f'`with pyro.plate("batch", len(x), dim=-1):`, with all its other dimensions in .to_event()'
        )
        return
    if any(frame.name == "batch" and frame.dim != -1 for frame in frames):
        yield f"{role} site {name!r}: the plate 'batch' must be at dim=-1, further plates to its left"
    if isinstance(innermost(site["fn"]), Rejector):
        yield (
            f"{role} site {name!r} is a rejection sampler, reparameterized in part only: use the plain "
            "pyro.distributions class (Gamma, Beta, ...), whose rsample is exact"
        )
    if role == "guide" and is_straight_through(site["fn"]):
        yield (
            f"guide site {name!r} is drawn relaxed and then rounded, so that its density is not that of its draws: "
            "draw from the discrete distribution, and use BiasedStraightThroughGumbel"
        )
    try:
        site["log_prob"] = site["fn"].log_prob(site["value"], *site["args"], **site["kwargs"])
    except (KeyError, ValueError, RuntimeError) as error:  # the first of a flow that cannot be inverted
        held = observed_nan(role, site)
        if held or not is_told:
            said = f"{NO_DENSITY}: {density_hint(site, error)} ({_one_line(error)})"
            yield held or f"{role} site {name!r} {said}"
        return
    if fault := underflow_message(site, site["log_prob"]):
        yield f"{role} site {name!r} {fault}"
    try:
        check_site_shape(site, max_plate_nesting=float("inf"))
    except ValueError as error:
        yield (
            f"{role} site {name!r} has batch dimensions that no plate declares: use .to_event() ({_one_line(error)})"
        )


def _second_batch_plates(role: str, trace: Trace) -> Iterator[str]:
    inside: dict[str, str] = {}  # plate at dim -1, first site in it
    for name, site in sample_sites(trace).items():
        inside |= {f.name: inside.get(f.name, name) for f in site["cond_indep_stack"] if f.dim == -1}
    batch = "batch" if "batch" in inside else next(iter(inside), None)
    for plate, name in inside.items():
        if plate != batch:
            yield (
                f"{role} site {name!r} is in plate {plate!r} at dim=-1, where {batch!r} holds the data: "
                "put it into that plate; what all data share is no latent here but a parameter"
            )


def _latent_mismatches(model: Trace, guide: Trace, summed_out: frozenset[str]) -> Iterator[str]:
    in_model = {name: site for name, site in latents(model).items() if name not in summed_out}
    in_guide = {name: site for name, site in sample_sites(guide).items() if not site["infer"].get("is_auxiliary")}
    for name in sorted(in_model.keys() - in_guide.keys()):
        hint = _closest(name, in_guide.keys() - in_model.keys())
        yield f"the guide has no site {name!r}, a latent of the model: add it to the guide{hint}"
    for name in sorted(in_guide.keys() - in_model.keys()):
        what = "no latent of the model"
        if name in sample_sites(model):
            what = "summed out" if name in summed_out else "observed in the model"
        hint = _closest(name, in_model.keys() - in_guide.keys())
        yield (
            f"guide site {name!r} is {what}: remove or rename it{hint}, or mark it is_auxiliary if a Delta carries it"
        )
    for name in sorted(in_model.keys() & in_guide.keys()):
        yield from _pair_mismatch(name, in_model[name], in_guide[name])


def _pair_mismatch(name: str, p: Site, q: Site) -> Iterator[str]:
    if q["is_observed"]:
        yield f"guide site {name!r} is observed in the guide: remove obs="
    if p["fn"].event_shape != q["fn"].event_shape:
        shapes = f"{tuple(q['fn'].event_shape)} in the guide and {tuple(p['fn'].event_shape)} in the model"
        yield f"site {name!r} has event shape {shapes}: make them equal"
    elif _has_other_values(p, q):
        yield (
            f"site {name!r} has support {support_in_words(q['fn'].support)} in the guide and "
            f"{support_in_words(p['fn'].support)} in the model: draw it from a distribution on the model's support"
        )
    sizes = [{(f.dim, f.size, f.full_size) for f in s["cond_indep_stack"] if f.vectorized} for s in (p, q)]
    if sizes[0] != sizes[1]:
        told = [", ".join(f"{_frame_size(f)} at dim {f[0]}" for f in sorted(s)) or "none" for s in sizes]
        yield (
            f"site {name!r} is in plates of size {told[1]} in the guide and {told[0]} in the model: "
            "give both the same plates"
        )
    elif p["fn"].event_shape == q["fn"].event_shape:
        yield from mask_mismatch(name, p, q)


def _has_other_values(p: Site, q: Site) -> bool:
    """Whether the guide draws a latent in another event shape, or outside of the model's support."""
    if p["fn"].event_shape != q["fn"].event_shape:
        return True
    return not is_point(q["fn"]) and not contains(p["fn"].support, q["fn"].support)


def _one_line(error: Exception) -> str:
    said = " ".join(str(error).partition(", but found invalid values")[0].split())
    return re.sub(r"tensor\([^()]*\)", "tensor(...)", said)


def _frame_size(frame: tuple[int, int, int | None]) -> str:
    _, size, full = frame
    return f"{size}" if full in (None, size) else f"{size} of {full}"


def _closest(name: str, names: Any) -> str:
    found = get_close_matches(name, list(names), n=1, cutoff=0.3)
    return f" (did you mean {found[0]!r}?)" if found else ""


def _foreign_params(role: str, trace: Trace, owned: set[int]) -> Iterator[str]:
    for name, site in trace.nodes.items():
        if site["type"] != "param":
            continue
        value: Any = site["value"]
        if _MODULE_NAMESPACE_DIVIDER in name:  # told by pyro.module
            continue
        if id(value.unconstrained() if hasattr(value, "unconstrained") else value) not in owned:
            yield (
                f"{role} has pyro.param({name!r}), which no module owns, so no optimizer sees it: make it an "
                "nn.Parameter (or PyroParam) of the program"
            )
