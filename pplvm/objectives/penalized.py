"""Penalties: deterministic sites of the guide that are minimised with a weight, and never enter the bound.

    loss = -bound + sum_p weight_p mean_k penalty_p

A penalty is a `pyro.deterministic` site of the guide, (B,) or (K, B).
They count in the surrogate alone: the value stays the bound itself.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from pyro.infer import ELBO
from pyro.poutine import Trace
from torch import Tensor, nn

from pplvm.bounds import elbo
from pplvm.objectives.estimate import Estimate, ObjectiveError
from pplvm.objectives.objective import Objective
from pplvm.objectives.site_draw import kind_of
from pplvm.objectives.targets import Tabulated
from pplvm.objectives.tempered_bound import TemperedBound
from pplvm.objectives.wrapper import Wrapper, unwrapped
from pplvm.particles.contract import deterministic_sites, latents, sample_sites
from pplvm.particles.dependencies import dependents_in
from pplvm.particles.factors import is_factor
from pplvm.particles.flows import log_density
from pplvm.particles.pair import Pair
from pplvm.particles.structure import structure

__all__ = ["Penalized", "PenaltyMeans"]


class Penalized(Wrapper):
    """Minimise weighted deterministic sites of the guide beside minus the bound (commitment, codebook, entropy).

    A penalty is one value a datum, (B,), or one a particle and datum, (K, B), averaged over particles. It is read in
    the run of the guide whose draws make the bound, and its gradient is that of the program's own computation: along
    the path of the draws that have one, through the parameters, and past whatever the program detaches. What depends
    on a draw whose path the objective does not follow (a discrete one, or any of wake-sleep's) would miss the score of
    that draw and is refused.

    Arguments:
        objective: any of `pplvm.objectives` that runs the guide, wrappers such as `Beta` among them.
        penalties: a weight for each deterministic site of the guide, by name, in nats per unit of the penalty; a
            negative one rewards (an entropy, say), and zero only reports.

    Raises:
        ObjectiveError: there is no penalty, or a weight is not finite; the objective is one of Pyro's, or never runs
            the guide; on any batch, a name is no deterministic site of the guide, a value is not one a datum, or it
            depends on a draw without a path.

    Example:
        >>> from pplvm.objectives.pathwise import AnalyticKL
        >>> objective = Penalized(AnalyticKL(), {"commitment": 0.25, "entropy": -0.1})

    References:
        van den Oord, Vinyals and Kavukcuoglu, Neural discrete representation learning, 2017, arXiv:1711.00937
        (codebook and commitment, equation 3)
    """

    control: "PenaltyMeans"

    def __init__(self, objective: ELBO, penalties: Mapping[str, float]) -> None:
        if not isinstance(objective, Objective):
            raise ObjectiveError(
                f"Penalized adds to the surrogate of pplvm.objectives, but {type(objective).__name__} of Pyro shows "
                "none: wrap an objective such as Pathwise() or LeaveOneOut()"
            )
        if not objective.uses_guide:
            raise ObjectiveError(
                f"Penalized weighs deterministic sites of the guide, which {type(unwrapped(objective)).__name__} never "
                "runs: wrap an objective such as Pathwise() or LeaveOneOut()"
            )
        if not penalties or not isinstance(penalties, Mapping):
            raise ObjectiveError(
                "Penalized: name at least one penalty, as in Penalized(objective, {'commitment': 1.0})"
            )
        for name, weight in penalties.items():
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
                raise ObjectiveError(f"Penalized: the weight of {name!r} must be a finite number, got {weight!r}")
        super().__init__(objective)
        self.penalties = {name: float(weight) for name, weight in penalties.items()}
        self.control = PenaltyMeans(len(penalties), objective.control)

    @property
    def target(self) -> Tabulated:
        weights = ", ".join(f"{name} times {weight:g}" for name, weight in self.penalties.items())
        return Tabulated(f"{_told(self.inner.target, self.num_particles)}, {weights}")

    def estimate(self, pair: Pair, *args: Any, **kwargs: Any) -> Estimate:
        runs = [] if pair.runs is None else pair.runs  # of one evaluation, shared with penalties around and within
        found = self.inner.estimate(replace(pair, runs=runs), *args, **kwargs)
        model_trace, guide_trace = runs[0] if runs else (None, None)
        if model_trace is None or guide_trace is None:
            raise ObjectiveError(
                f"Penalized weighs deterministic sites of the guide, but {type(unwrapped(self)).__name__} does not run "
                "this program's: wrap an objective such as Pathwise() or LeaveOneOut()"
            )
        values = self._values(pair, guide_trace, found.value.shape[-1])
        if torch.is_grad_enabled():
            self._require_paths(pair, model_trace, guide_trace, args, kwargs)
            self.control.observe(list(values.values()))
        penalty = torch.stack([self.penalties[name] * value for name, value in values.items()]).sum(0)
        return replace(found, surrogate=found.surrogate - (penalty - penalty.detach()))  # of value zero: no rounding

    def reported(self) -> dict[str, Tensor]:
        """The mean of each penalty over the last training batch, unweighted, (); nan before the first."""
        return super().reported() | dict(zip(self.penalties, self.control.means.clone(), strict=True))

    def _values(self, pair: Pair, guide_trace: Trace, num_data: int) -> dict[str, Tensor]:
        """Each penalty, averaged over particles, (B,)."""
        sites = deterministic_sites(guide_trace)
        for name in self.penalties.keys() - sites.keys():
            known = ", ".join(map(repr, sites)) or "none: add pyro.deterministic(name, value) to it"
            raise ObjectiveError(f"Penalized names {name!r}, but the guide's deterministic sites are {known}")
        found = {}
        for name in self.penalties:
            value = sites[name]["value"]
            if (why := _why_not_per_datum(value, self.num_particles, num_data, pair.nesting)) is not None:
                raise ObjectiveError(
                    f"penalty {name!r} {why}: give it one value a datum, ({num_data},), or one a particle and datum, "
                    "with all other dimensions summed"
                )
            found[name] = value.reshape(-1, num_data).mean(0)
        return found

    def _require_paths(self, pair: Pair, model_trace: Trace, guide_trace: Trace, args: tuple, kwargs: dict) -> None:
        """Refuse a penalty that depends on a draw whose gradient is not pathwise."""
        rule = type(unwrapped(self)).__name__
        for name, site in sample_sites(guide_trace).items():
            if is_factor(site) and not pair.has_path(site) and log_density(site).requires_grad:
                raise ObjectiveError(
                    f"Penalized follows the paths of the guide's draws, but its factor {name!r} tells of draws that "
                    "have none: draw them from a distribution at a site of their own"
                )
        pathless = {name: site for name, site in latents(guide_trace).items() if not site["value"].requires_grad}
        if not pathless:
            return
        dependent = dependents_in(pair, structure(model_trace, guide_trace), args, kwargs)
        for name, site in pathless.items():
            moved = [p for p, weight in self.penalties.items() if weight and p in dependent[name].guide]
            if moved and log_density(site).requires_grad:
                raise ObjectiveError(
                    f"penalty {moved[0]!r} depends on the draw of guide site {name!r} ({kind_of(site)}), whose path "
                    f"{rule} does not follow, so that its gradient would miss the draw's score: compute it from what "
                    "the guide draws by (its probabilities), or draw the site along a path under Pathwise"
                )


class PenaltyMeans(nn.Module):
    """The mean of each penalty over the last training batch, beside the wrapped objective's control variate."""

    means: Tensor

    def __init__(self, num_penalties: int, inner: nn.Module | None) -> None:
        super().__init__()
        self.inner = inner
        self.register_buffer("means", torch.full((num_penalties,), math.nan))

    @torch.no_grad()
    def observe(self, penalties: list[Tensor]) -> None:
        """Record the penalties of one evaluation, each (B,)."""
        if self.training:
            self.means.copy_(torch.stack([each.mean().to(self.means) for each in penalties]))


def _why_not_per_datum(value: Any, num_particles: int, num_data: int, nesting: int) -> str | None:
    """Why a value has not the shape (B,) or (K, B), with nested plates of size one between."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        kind = str(value.dtype) if isinstance(value, Tensor) else type(value).__name__
        return f"is no tensor of floating-point numbers ({kind})"
    *left, last = value.shape or (0,)
    particles = left[0] if len(left) == nesting else 1
    nested = left[1:] if len(left) == nesting else left
    if last != num_data or len(left) > nesting or particles not in (1, num_particles) or any(n != 1 for n in nested):
        return f"has shape {tuple(value.shape)}"
    return None


def _told(target: Any, num_particles: int) -> str:
    """A target in words, with its number of particles."""
    if isinstance(target, Tabulated):
        return target.name
    bound = target.bound if isinstance(target, TemperedBound) else target
    name = getattr(target, "__name__", str(target))
    return name if bound is elbo else f"{name} of {num_particles}"
