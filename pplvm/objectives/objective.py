"""The abstract objective, a Pyro ELBO, and `Loss`, which joins an objective and a program.

An objective is a bound and a gradient rule. It yields two tensors per datum, both (B,): the value, which
is reported, and the surrogate, which is differentiated:

    loss_b = -surrogate_b - (value_b - surrogate_b).detach()
"""

from abc import abstractmethod
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Any

import pyro
import torch
from pyro.infer import ELBO
from pyro.poutine import Trace
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from pplvm.bounds import elbo
from pplvm.objectives.estimate import Estimate, ObjectiveError, scale_beside_subsampling
from pplvm.objectives.pyro_elbos import loss_per_datum, register_with_pyro, require_right
from pplvm.objectives.refused_sites import refuse_random_lower_bounds, refuse_rules
from pplvm.objectives.targets import Tabulated
from pplvm.particles.autoguides import automatic_guides, same_rows
from pplvm.particles.contract import Site
from pplvm.particles.nonfinite_sites import first_nonfinite, first_nonfinite_gradient
from pplvm.particles.pair import Pair, Particles, draw_from_pair, owners, pair_up
from pplvm.particles.parameter_roles import parameter_roles
from pplvm.particles.side_effects import without_side_effects
from pplvm.particles.state_cache import StateCache
from pplvm.particles.vectorization_check import raise_program_error, why_particles_interact

__all__ = ["Estimate", "Loss", "Objective", "ObjectiveError"]


class Objective(ELBO):
    """A bound and a gradient rule; children implement `estimate`.

    Works in `Loss(objective, program)` and in `pyro.infer.SVI`. The first batch of a program is checked
    with Pyro's validation on (further, short runs), and so is the first of each structure and of each state of its
    modules (modes, numbers kept on them, which parameters learn); else nothing is read back to the host.

    Arguments:
        num_particles: K, at least 1.

    Raises:
        ObjectiveError: num_particles is no integer of at least 1.
    """

    control: nn.Module | None = None
    """A baseline or control variate with state of its own; `Loss` registers its parameters."""

    rules_by_site = False
    """Whether `infer={"grad": rule}` at a site of the guide is obeyed; it is refused if not."""

    uses_guide = True
    """Whether the guide is run at all."""

    leaves_paths = False
    """Whether sites that the rule does not take are differentiated along their path, and nothing else is done."""

    least_particles = 1
    """The smallest K at which the estimator is defined."""

    def __init__(self, num_particles: int = 1) -> None:
        if isinstance(num_particles, bool) or not isinstance(num_particles, int):
            raise ObjectiveError(f"{type(self).__name__}: num_particles must be an integer, got {num_particles!r}")
        if num_particles < self.least_particles:
            raise ObjectiveError(
                f"{type(self).__name__}: num_particles must be at least {self.least_particles}, got {num_particles}"
            )
        super().__init__(num_particles=num_particles, vectorize_particles=True)
        self._pairs = StateCache[Pair]()

    @property
    @abstractmethod
    def target(self) -> Callable[[Tensor], Tensor] | Tabulated:
        """What the gradient is an estimate of: the expectation of a bound, or one of `pplvm.objectives.targets`."""

    @property
    def is_elbo(self) -> bool:
        """Whether the value is linear in log-weights, so that log-densities may be random lower bounds."""
        return self.target is elbo

    @abstractmethod
    def estimate(self, pair: Pair, *args: Any, **kwargs: Any) -> Estimate:
        """Compute value and surrogate of a checked program on one batch."""

    def losses(self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any) -> Tensor:
        """The loss of each datum, (B,): its value is minus the bound, its gradient minus the estimator.

        What `poutine.scale` multiplies all sites by multiplies it too; N/B of a subsampled plate belongs to sums alone.
        """
        pair = replace(self._checked(model, guide, args, kwargs), runs=[])
        estimate = self.estimate(pair, *args, **kwargs)
        scale = scale_beside_subsampling(estimate, pair, args, kwargs)
        return estimate.losses if scale == 1 else scale * estimate.losses

    def differentiable_loss(
        self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Tensor:
        """The loss summed over the batch, times the scale of the program's sites, for `pyro.infer.SVI`."""
        estimate = self.estimate(self._checked(model, guide, args, kwargs), *args, **kwargs)
        return estimate.scale * estimate.losses.sum()

    @torch.no_grad()
    def loss(self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any) -> float:
        with same_rows(automatic_guides(owners(model, guide))):
            return self.differentiable_loss(model, guide, *args, **kwargs).item()

    def loss_and_grads(self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any) -> float:
        register_with_pyro([module for module in (*owners(model, guide), self.control) if module is not None])
        with same_rows(automatic_guides(owners(model, guide))):
            loss = self.differentiable_loss(model, guide, *args, **kwargs)
        if loss.requires_grad:
            loss.backward(retain_graph=self.retain_graph)
        return loss.item()

    def takes(self, site: Site) -> bool:
        """Whether the rule makes the gradient of a site of the guide."""
        return True

    def reported(self) -> dict[str, Tensor]:
        """What is told beside the value, of the last training evaluation: detached scalars (), by name."""
        return {}

    def draw(self, pair: Pair, *args: Any, **kwargs: Any) -> Particles:
        """Draw K particles from the guide."""
        return draw_from_pair(pair, self.num_particles, args, kwargs)

    def _checked(self, model: Callable[..., Any], guide: Callable[..., Any], args: tuple, kwargs: dict) -> Pair:
        """The program, checked once for its present state; buffers and random states are restored."""
        used = guide if self.uses_guide else None

        def check(args: tuple, kwargs: dict) -> Pair:
            modules = [*owners(model, used), *([] if self.control is None else [self.control])]
            with without_side_effects(modules, [*args, *kwargs.values()]):
                pair = self._pair_up(model, used, args, kwargs)
                self._refuse_rules_by_site(pair, args, kwargs)
            if pair.structures is not None:
                pair.structures.check = check
            return pair

        programs = (model, used, self.num_particles)
        return self._pairs.get(programs, owners(model, used), args, kwargs, lambda: check(args, kwargs))

    def _pair_up(self, model: Callable[..., Any], guide: Callable[..., Any] | None, args: tuple, kwargs: dict) -> Pair:
        pair = pair_up(model, guide, args, kwargs)
        refuse_random_lower_bounds(type(self).__name__, self.is_elbo, pair, args, kwargs)
        if self.num_particles > 1:
            raise_program_error(why_particles_interact(pair, args, kwargs))
        return pair

    def _refuse_rules_by_site(self, pair: Pair, args: tuple, kwargs: dict) -> None:
        if not self.rules_by_site and pair.guide is not None:
            refuse_rules(type(self).__name__, pair, args, kwargs)

    def _get_trace(
        self, model: Callable[..., Any], guide: Callable[..., Any], args: tuple, kwargs: dict
    ) -> tuple[Trace, Trace]:
        drawn = self.draw(self._checked(model, guide, args, kwargs), *args, **kwargs)
        return drawn.model_trace, drawn.guide_trace


class Loss(nn.Module):
    """An objective and a program: minus the bound in nats per datum, as a module to train.

    It is the mean over the batch, N/B of a subsampled plate left out.

    Arguments:
        objective: one of `pplvm.objectives`, or a Pyro ELBO that has `differentiable_loss`.
        program: a module with methods `model(x)` and `guide(x)`.

    Raises:
        ObjectiveError: the objective is a Pyro ELBO that cannot be differentiated as a module.
        TypeError: objective or program is of another kind.

    Example:
        >>> from pplvm.objectives.pathwise import Pathwise
        >>> from pplvm.programs.vae import VAE
        >>> loss = Loss(Pathwise(num_particles=4), VAE(data_size=8, latent_size=2, hidden_sizes=(5,)))
        >>> loss(torch.zeros(3, 8)).backward()
    """

    def __init__(self, objective: ELBO, program: nn.Module) -> None:
        super().__init__()
        if not isinstance(objective, ELBO):
            raise TypeError(f"Loss: {objective!r} is no objective; pass an instance, e.g. LeaveOneOut()")
        if not hasattr(objective, "differentiable_loss"):
            name = type(objective).__name__
            raise ObjectiveError(f"Loss: Pyro's {name} has no differentiable_loss; wrap it: PyroObjective({name}())")
        if not isinstance(program, nn.Module) or not all(
            callable(getattr(program, method, None)) for method in ("model", "guide")
        ):
            raise TypeError(f"Loss: {type(program).__name__} is no program: an nn.Module with model(x) and guide(x)")
        self.objective, self.program = objective, program
        self.control = getattr(objective, "control", None)
        held = next(chain(program.parameters(), program.buffers()), None)
        if self.control is not None and held is not None:
            self.control.to(held.device)
        self._checks = StateCache[None]()  # of programs under Pyro's own objectives, which check none
        self._per_row: list[nn.Module] | None = None

    def forward(self, *args: Any) -> Tensor:
        if not isinstance(self.objective, Objective):
            check = partial(require_right, self.objective, self.program, args)
            self._checks.get((self.program.model, self.program.guide), [self.program], args, {}, check)
        if self._per_row is None:
            self._per_row = automatic_guides([self.program])
        rows = same_rows(self._per_row) if self._per_row else nullcontext()
        batch = tuple(x.view_as(x) if isinstance(x, Tensor) else x for x in args)  # a flow caches by tensor
        with pyro.get_param_store().scope(), rows:  # the store is where PyroModules leave their parameters
            objective = self.objective
            if (
                isinstance(objective, Objective)
                and type(objective).differentiable_loss is Objective.differentiable_loss
            ):
                return objective.losses(self.program.model, self.program.guide, *batch).mean()
            return loss_per_datum(self.objective, self.program, batch)

    def backward(self, *batch: Any) -> Tensor:
        """The loss, (), detached, its gradients added to `.grad`."""
        value = self(*batch)
        value.backward()
        return value.detach()

    def reported(self) -> dict[str, Tensor]:
        """The mean of each penalty over the last training batch, unweighted, a detached scalar () by name."""
        return self.objective.reported() if isinstance(self.objective, Objective) else {}

    def explain(self, *args: Any) -> str | None:
        """Where the program is not finite on a batch, with site, row and what to do; None if it is finite.

        The random state and buffers stay as they were.
        """
        program: Any = self.program
        programs = {"guide": program.guide} if getattr(self.objective, "uses_guide", True) else {}
        programs["model"] = program.model
        with without_side_effects(self, args):
            return first_nonfinite(programs, args, {}) or first_nonfinite_gradient(programs, self._learning(), args, {})

    def parameter_groups(
        self, learning_rate: float, control_learning_rate: float | None = None
    ) -> list[dict[str, Any]]:
        """Parameter groups of the program and of a learned control variate, for an optimizer of `torch.optim`.

        Arguments:
            learning_rate: of the program.
            control_learning_rate: of the control variate or baseline; ten times the program's unless named.

        Example:
            >>> from pplvm.objectives.control_variates import REBAR
            >>> from pplvm.programs.sigmoid_belief import SigmoidBeliefNet
            >>> loss = Loss(REBAR(), SigmoidBeliefNet(8))
            >>> optimizer = torch.optim.Adam(loss.parameter_groups(1e-3))
            >>> [(len(group["params"]), group["lr"]) for group in optimizer.param_groups]
            [(5, 0.001), (2, 0.01)]

        References:
            Tucker, Mnih, Maddison, Lawson and Sohl-Dickstein, REBAR, 2017, arXiv:1703.07370 (ten times)
        """
        faster = 10 * learning_rate if control_learning_rate is None else control_learning_rate
        groups = [(list(self.program.parameters()), learning_rate), (self._learned_control(), faster)]
        return [{"params": parameters, "lr": rate} for parameters, rate in groups if parameters]

    def parts(self, *args: Any) -> dict[str, list[nn.Parameter]]:
        """The trainable modules by part, so that each may have an optimizer of its own.

        "guide" are the parameters that only the guide's density depends on, "control" those of a baseline or control
        variate, "model" all others.

        Arguments:
            args: a batch, on which the program is run once.

        Example:
            >>> from pplvm.objectives.score_function import LeaveOneOut
            >>> from pplvm.programs.sigmoid_belief import SigmoidBeliefNet
            >>> loss = Loss(LeaveOneOut(num_particles=2), SigmoidBeliefNet(8))
            >>> {part: len(parameters) for part, parameters in loss.parts(torch.zeros(1, 8)).items()}
            {'model': 3, 'guide': 2, 'control': 0}
        """
        roles = parameter_roles(self.program.model, self.program.guide, self._learning, *args)
        by_role = list(zip(self._learning(), roles, strict=True))
        return {
            "model": [p for p, used_by in by_role if used_by != {"guide"}],
            "guide": [p for p, used_by in by_role if used_by == {"guide"}],
            "control": self._learned_control(),
        }

    def _learning(self) -> list[nn.Parameter]:
        return [p for p in self.program.parameters() if p.requires_grad and not is_lazy(p)]

    def _learned_control(self) -> list[nn.Parameter]:
        owned = {id(parameter) for parameter in self.program.parameters()}
        return [p for p in self.control.parameters() if id(p) not in owned] if self.control is not None else []
