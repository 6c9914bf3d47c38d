"""A gradient rule for one guide site at a time: what `Sitewise` composes into an objective."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from pplvm.objectives.site_draw import SiteDraw
from pplvm.particles.contract import Site
from pplvm.particles.reparameterized_sites import is_reparameterized

__all__ = ["SiteRule", "is_learning", "less_variance"]


class SiteRule(ABC):
    """The gradient of a bound through one guide site; children write `surrogate`."""

    any_bound = False
    """Whether the rule holds for other bounds than the elbo."""

    many_at_once = False
    """Whether the rule tries several values of its site in one run, even at one particle."""

    credits_each_datum = True
    """Whether the rule credits a datum's draw with that datum's terms alone."""

    takes_masks = False
    """Whether the rule holds for draws whose densities a mask around the site hides, in model and guide alike."""

    least_particles = 1
    """The smallest K at which the rule is defined."""

    control: nn.Module | None = None
    """A control variate with state of its own."""

    @property
    def name(self) -> str:
        """What messages call the rule."""
        return type(self).__name__.removesuffix("Rule")

    @abstractmethod
    def surrogate(self, site: SiteDraw) -> Tensor:
        """The surrogate of one site, (B,): its gradient is that of the bound through the site."""

    def refusal(self, site: Site) -> str | None:
        """Why the rule cannot be applied to a site; None if it can."""
        return None

    def inspect(self, site: SiteDraw) -> None:
        """Raise ObjectiveError where the rule would be biased on this program; part of each check."""
        return None

    def claims(self, site: Site) -> bool:
        """Whether the rule applies to a site that names no rule."""
        return not is_reparameterized(site["fn"])


def is_learning(control: nn.Module) -> bool:
    """Whether a control variate is in training mode and has trainable parameters."""
    return control.training and any(p.requires_grad for p in control.parameters())


def less_variance(control: nn.Module, second_moment: Callable[[], Tensor], site: SiteDraw) -> Tensor | float:
    """A term, (), whose gradient lowers a second moment by the control variate's parameters alone."""
    if not is_learning(control):
        return 0.0
    parameters = [p for p in control.parameters() if p.requires_grad]
    found = torch.autograd.grad(second_moment(), parameters, allow_unused=True)
    descent = [(p * g).sum() for p, g in zip(parameters, found, strict=True) if g is not None]
    return -torch.stack(descent).sum() / site.drawn.log_p.shape[1]
