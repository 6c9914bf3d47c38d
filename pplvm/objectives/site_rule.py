"""A gradient rule for one guide site at a time: what `Sitewise` composes into an objective."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from pplvm.objectives.site_draw import SiteDraw
from pplvm.particles.contract import Site
from pplvm.particles.paths import has_path

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
        """What is differentiated for one site, (B,): its gradient is that of the bound through the site."""

    def refusal(self, site: Site) -> str | None:
        """Why a site of the guide cannot follow this rule, None if it can."""
        return None

    def inspect(self, site: SiteDraw) -> None:
        """Raise ObjectiveError where the rule would be biased on this program; part of each check of it."""
        return None

    def claims(self, site: Site) -> bool:
        """Whether the rule takes a site that does not name one."""
        return not has_path(site["fn"])


def is_learning(control: nn.Module) -> bool:
    """Whether a control variate is in training and has parameters to learn."""
    return control.training and any(p.requires_grad for p in control.parameters())


def less_variance(control: nn.Module, second_moment: Callable[[], Tensor], site: SiteDraw) -> Tensor | float:
    """A share of a surrogate, (), whose gradient descends a second moment in the control's parameters alone."""
    if not is_learning(control):
        return 0.0
    parameters = [p for p in control.parameters() if p.requires_grad]
    found = torch.autograd.grad(second_moment(), parameters, allow_unused=True)
    descent = [(p * g).sum() for p, g in zip(parameters, found, strict=True) if g is not None]
    return -torch.stack(descent).sum() / site.drawn.log_p.shape[1]
