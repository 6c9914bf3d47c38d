"""Score-function gradients (REINFORCE) for guides with discrete sites; reparameterized sites stay pathwise.

    gradient = d bound(w) along paths + sum_k credit_k d log q_score(z_k | x)

credit_k is what particle k earned, minus a baseline that does not depend on it. In the elbo each site of the guide
has a credit of its own, which holds only the terms that depend on the site (Rao-Blackwellization).
"""

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from pplvm.bounds import Bound, elbo
from pplvm.objectives.baselines import LearnedBaseline, MovingAverage
from pplvm.objectives.detached import require_still_supports
from pplvm.objectives.estimate import Estimate, ObjectiveError
from pplvm.objectives.independence import learning_latents, require_independent_data
from pplvm.objectives.objective import Objective
from pplvm.particles.contract import Site
from pplvm.particles.dependencies import dependents_of
from pplvm.particles.pair import Pair, Particles, draw_from_pair
from pplvm.particles.reparameterized_sites import is_reparameterized

__all__ = ["LeaveOneOut", "ScoreFunction"]


class _Scored(Objective):
    """Objectives that multiply the score of each site by a credit."""

    leaves_paths = True
    bound: Bound

    @property
    def target(self) -> Bound:
        return self.bound

    def takes(self, site: Site) -> bool:
        return not is_reparameterized(site["fn"])

    def _pair_up(self, model: Callable[..., Any], guide: Callable[..., Any] | None, args: tuple, kwargs: dict) -> Pair:
        pair = super()._pair_up(model, guide, args, kwargs)
        learning = learning_latents(pair, args, kwargs).items()
        scored = [name for name, site in learning if not pair.has_path(site)]
        require_independent_data(self, pair, args, kwargs, scored)
        if scored:
            require_still_supports(self, pair, args, kwargs, scored)
        if self.bound is elbo and len(scored) > 1:
            dependents_of(pair, draw_from_pair(pair, 1, args, kwargs), args, kwargs)
        return pair

    def _site_by_site(self, drawn: Particles, credit: Callable[[Tensor], Tensor], *where: Any) -> Tensor:
        """Each site's score times the credit of its own learning signal, (B,); `where` is pair, args, kwargs."""
        if self.bound is not elbo or len(drawn.log_q_score_sites) < 2:
            return (credit(drawn.log_weights.detach()) * drawn.log_q_score).sum(0)
        pair, args, kwargs = where
        dependent = dependents_of(pair, drawn, args, kwargs)
        scored = drawn.log_q_score_sites.items()
        signals = {n: dependent[n].signal(drawn) if n in dependent else drawn.log_weights for n in dict(scored)}
        return torch.stack([credit(signals[name].detach()) * log_q for name, log_q in scored]).sum((0, 1))


class ScoreFunction(_Scored):
    """REINFORCE: weight the score of each draw by its learning signal, minus a baseline (NVIL).

        elbo:          credit_k = (log w_k - b) / K
        other bounds:  credit_k = bound(w) - b

    A baseline predicts the whole signal, so with one all sites share one credit.

    Arguments:
        bound: maps log-weights (K, B) to one value per datum (B,).
        num_particles: K, at least 1.
        baseline: None, a `MovingAverage` or a `LearnedBaseline`; its parameters join those of the `Loss`.

    Raises:
        ObjectiveError: on the first batch, a datum's draws change other data's densities (batch normalization).

    Example:
        >>> objective = ScoreFunction(elbo, num_particles=5, baseline=MovingAverage())

    References:
        Williams, Simple statistical gradient-following algorithms, 1992
        Mnih and Gregor, Neural variational inference and learning in belief networks, 2014, arXiv:1402.0030
    """

    def __init__(
        self,
        bound: Bound = elbo,
        num_particles: int = 1,
        baseline: MovingAverage | LearnedBaseline | None = None,
    ) -> None:
        super().__init__(num_particles)
        self.bound = bound
        self.control: MovingAverage | LearnedBaseline | None = baseline

    def estimate(self, pair: Pair, *args: Any, **kwargs: Any) -> Estimate:
        drawn = self.draw(pair, *args, **kwargs)
        log_weights = drawn.log_weights.detach()
        signal, share = self._signal(log_weights)
        surrogate = pathwise_bound(self.bound, drawn)
        if self.control is None:
            scored = self._site_by_site(drawn, lambda own: share * self._signal(own)[0], pair, args, kwargs)
        else:
            prediction = self.control(*args)
            scored = (share * (signal - prediction.detach()) * drawn.log_q_score).sum(0)
            if prediction.requires_grad:
                scored = scored - (signal - prediction).square().mean(0)
            self.control.observe(signal)
        return Estimate(self.bound(log_weights), surrogate + scored, drawn.scale)

    def _signal(self, log_weights: Tensor) -> tuple[Tensor, float]:
        """The weight of each particle's score (K, B), and its share of the bound."""
        if self.bound is elbo:  # the other particles' terms do not depend on this one
            return log_weights, 1 / self.num_particles
        return self.bound(log_weights).expand_as(log_weights), 1.0


class LeaveOneOut(_Scored):
    """Weight the score of each particle by how much the bound loses without it: RLOO with `elbo`, VIMCO with `iwae`.

        credit_k = bound(w) - bound(w with entry k replaced by the mean of the others)

    Arguments:
        bound: maps log-weights (K, B) to one value per datum (B,).
        num_particles: K, at least 2.
        mean: of the other weights, "geometric" (of the log-weights) or "arithmetic" (of the weights);
            RLOO and the published VIMCO are geometric.

    Raises:
        ObjectiveError: num_particles is below 2; mean has another name; as `ScoreFunction`.

    Example:
        >>> rloo = LeaveOneOut(elbo, num_particles=4)

    References:
        Mnih and Rezende, Variational inference for Monte Carlo objectives, 2016, arXiv:1602.06725
        Kool, van Hoof and Welling, Buy 4 REINFORCE samples, get a baseline for free, 2019
    """

    least_particles = 2

    def __init__(
        self,
        bound: Bound = elbo,
        num_particles: int = 2,
        mean: Literal["geometric", "arithmetic"] = "geometric",
    ) -> None:
        super().__init__(num_particles)
        if mean not in ("geometric", "arithmetic"):
            raise ObjectiveError(f"LeaveOneOut: mean must be 'geometric' or 'arithmetic', got {mean!r}")
        self.bound, self.mean = bound, mean

    def estimate(self, pair: Pair, *args: Any, **kwargs: Any) -> Estimate:
        drawn = self.draw(pair, *args, **kwargs)
        scored = self._site_by_site(drawn, self._credit, pair, args, kwargs)
        return Estimate(self.bound(drawn.log_weights.detach()), pathwise_bound(self.bound, drawn) + scored, drawn.scale)

    def _credit(self, log_weights: Tensor) -> Tensor:
        return self.bound(log_weights) - self.bound(leave_one_out_weights(log_weights, self.mean))


def pathwise_bound(bound: Bound, drawn: Particles) -> Tensor:
    """The bound (B,), differentiable through the model, reparameterized draws and, where needed, the score.

    In the elbo the score sites' own log q has a gradient of mean zero, so it is left out; elsewhere
    -sum_k w~_k d log q(z_k) belongs to the gradient.
    """
    return bound(drawn.log_p - (drawn.log_q_path if bound is elbo else drawn.log_q))


def leave_one_out_weights(log_weights: Tensor, mean: str = "geometric") -> Tensor:
    """Entry [j, k, b]: weight j of datum b, with weight k replaced by the mean of the others, (K, K, B)."""
    K = len(log_weights)
    itself = torch.eye(K, dtype=torch.bool, device=log_weights.device).unsqueeze(-1)  # (K, K, 1)
    if mean == "geometric":
        others = (log_weights.sum(0) - log_weights) / (K - 1)  # (K, B)
        impossible = log_weights == -torch.inf  # whose difference above is no number
        alone = impossible & (impossible.sum(0) == 1)
        possible = log_weights.masked_fill(impossible, 0.0).sum(0) / (K - 1)
        others = torch.where(alone, possible, others.masked_fill(impossible.any(0) & ~alone, -torch.inf))
    else:
        rows = log_weights.unsqueeze(1).masked_fill(itself, -torch.inf)  # (K, K, B)
        others = rows.logsumexp(0) - math.log(K - 1)
    return torch.where(itself, others, log_weights.unsqueeze(1))
