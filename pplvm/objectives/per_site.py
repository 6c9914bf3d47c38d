"""An objective with a gradient rule for each site of the guide."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pplvm.bounds import elbo
from pplvm.objectives.estimate import ObjectiveError
from pplvm.objectives.site_draw import SiteDraw
from pplvm.objectives.site_rule import SiteRule
from pplvm.objectives.sitewise import Sitewise
from pplvm.particles.contract import Site, latents
from pplvm.particles.pair import Pair, cuda_devices

__all__ = ["PerSite"]


class PerSite(Sitewise):
    """The elbo's gradient, each site by the rule that the guide names for it.

    Sites without a rule keep their path; those without a path are scored, leave-one-out from two particles up.

    Arguments:
        rules: by site name; `infer={"grad": rule}` at the site itself does the same.
        num_particles: K, draws for all rules, at least 1.

    Raises:
        ObjectiveError: a rule is none; on the first batch, a rule does not suit its site, or a name is no site
            of the guide.

    Example:
        >>> from pplvm.objectives.antithetic import DisARM
        >>> from pplvm.objectives.control_variates import REBAR
        >>> objective = PerSite({"z_1": DisARM(), "z_2": REBAR()}, num_particles=2)
    """

    def __init__(self, rules: Mapping[str, SiteRule | Sitewise] | None = None, num_particles: int = 1) -> None:
        super().__init__(_ScoredRule(), elbo, num_particles)
        self.rules = dict(rules or {})
        for name, rule in self.rules.items():
            if not isinstance(rule, SiteRule | Sitewise):
                raise ObjectiveError(f"PerSite: site {name!r} names {rule!r}: name a rule such as DisARM()")
        learned = {name: rule.control for name, rule in self.rules.items() if rule.control is not None}
        self.control = nn.ModuleDict({name.replace(".", "_"): control for name, control in learned.items()}) or None

    def _pair_up(self, model: Callable[..., Any], guide: Callable[..., Any] | None, args: tuple, kwargs: dict) -> Pair:
        pair = super()._pair_up(model, guide, args, kwargs)
        with torch.random.fork_rng(cuda_devices(args)):
            names = latents(pair.run_guide(1, args, kwargs))
        for name in self.rules.keys() - names.keys():
            raise ObjectiveError(f"PerSite names a rule for {name!r}, but the guide's latents are {', '.join(names)}")
        return pair

    def named(self, site: Site) -> Any:
        return self.rules.get(site["name"]) or super().named(site)


class _ScoredRule(SiteRule):
    """The score of a draw, weighed by what it earned, leave-one-out from two particles up."""

    def surrogate(self, site: SiteDraw) -> Tensor:
        f, K = site.f, site.num_particles
        credit = f if K == 1 else f - (f.sum(0) - f) / (K - 1)
        return (credit * site.log_q).mean(0)
