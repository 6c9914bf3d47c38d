"""Whether f is continuous between the states of a discrete site, on which rules that follow its slopes there rest."""

import torch

from pplvm.objectives.discrete import Discrete
from pplvm.objectives.estimate import ObjectiveError
from pplvm.objectives.site_draw import SiteDraw
from pplvm.objectives.site_rule import SiteRule

__all__ = ["require_continuous"]


@torch.enable_grad()
def require_continuous(rule: SiteRule, site: SiteDraw) -> None:
    """Refuse a program that is discontinuous between the states, whose slopes do not tell its differences.

    From one soft value to another f must change by the integral of its slope.

    Raises:
        ObjectiveError: say, the model compares a latent with a threshold.
    """
    start = torch.rand_like(site.value) if Discrete(site.fn).is_binary else torch.randn_like(site.value).softmax(-1)
    end = 1 - start if Discrete(site.fn).is_binary else start.roll(1, -1)
    total, size, values = 0.0, 0.0, []
    for t in torch.linspace(0, 1, PLACES, device=start.device).tolist():
        place = (start + t * (end - start)).requires_grad_()
        torch.manual_seed(0)  # the same later draws all along; the caller restores the stream
        f = site.f_relaxed(place, lambda later, draw: later.mean.expand_as(draw))
        (slope,) = torch.autograd.grad(f.sum(), place)
        weight = (0.5 if t in (0.0, 1.0) else 1.0) / (PLACES - 1)
        along = site.per_datum(slope * (end - start))
        total, size = total + weight * along, size + weight * along.abs()
        values.append(f.detach())
    gap, told = (values[-1] - values[0] - total).abs().sum(), size.sum() + (values[-1] - values[0]).abs().sum()
    if gap > MOST_JUMP * told + ROUNDING * values[0].abs().sum():
        raise ObjectiveError(
            f"{rule.name} follows slopes of f between the states of guide site {site.name!r}, but there f "
            f"jumps: {gap / told:.0%} of what it does is in no slope (a threshold, rounding, a mask?), so the gradient "
            "would be silently biased: use DisARM or LeaveOneOut"
        )


PLACES, MOST_JUMP, ROUNDING = 41, 0.05, 1e-5
"""Where f is read on its way, the share of its change that the trapezoidal rule may miss of a smooth f, and the share
of f itself that is arithmetic."""
