"""What every objective is, a Pyro ELBO, and the one joint between objective and program, `Loss`.

An objective is a bound and a gradient rule. It yields two tensors per datum, both (B,): the value, which
is reported, and the surrogate, which is differentiated:

    loss = -scale * sum_b [ surrogate_b + (value_b - surrogate_b).detach() ]
"""

import weakref
from abc import abstractmethod
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain
from typing import Any

import pyro
import torch
from pyro.infer import ELBO
from pyro.poutine import Trace
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import effectful
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from pplvm.objectives.left_out import why_not_summed_out
from pplvm.objectives.targets import Tabulated
from pplvm.particles.agreement import particles_disagree, refuse
from pplvm.particles.autoguides import automatic_guides, same_rows
from pplvm.particles.contract import Site, latents
from pplvm.particles.faults import first_fault, first_steep_site
from pplvm.particles.halves import users
from pplvm.particles.pair import Pair, Particles, cuda_devices, gather, inspect_pair, owners, pair_up
from pplvm.particles.paths import has_path
from pplvm.particles.program_state import PerState
from pplvm.particles.side_effects import moving_once, undone

__all__ = ["Estimate", "Loss", "Objective", "ObjectiveError", "announce"]


class ObjectiveError(ValueError):
    """An objective and a program, or a bound and a rule, that together would be biased or undefined."""


@dataclass(frozen=True)
class Estimate:
    """One evaluation of an objective on a batch, in nats."""

    value: Tensor  # (B,), the bound
    surrogate: Tensor  # (B,), whose gradient is the estimator
    scale: float = 1.0  # N/B of a subsampled plate


class Objective(ELBO):
    """A bound and a gradient rule; children write `estimate`, all else follows from it.

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
        self._pairs = PerState[Pair]()

    @property
    @abstractmethod
    def target(self) -> Callable[[Tensor], Tensor] | Tabulated:
        """What the gradient is an estimate of: the expectation of a bound, or one of `pplvm.objectives.targets`."""

    @abstractmethod
    def estimate(self, pair: Pair, *args: Any, **kwargs: Any) -> Estimate:
        """Evaluate value and surrogate of a checked program on one batch."""

    def differentiable_loss(
        self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Tensor:
        """The loss, summed over the batch; its value is minus the bound, its gradient the estimator."""
        estimate = self.estimate(self._checked(model, guide, args, kwargs), *args, **kwargs)
        value, surrogate = estimate.value, estimate.surrogate
        return -estimate.scale * (surrogate + (value - surrogate).detach()).sum()

    @torch.no_grad()
    def loss(self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any) -> float:
        with same_rows(automatic_guides(owners(model, guide))):
            return self.differentiable_loss(model, guide, *args, **kwargs).item()

    def loss_and_grads(self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any) -> float:
        announce([module for module in (*owners(model, guide), self.control) if module is not None])
        with same_rows(automatic_guides(owners(model, guide))):
            loss = self.differentiable_loss(model, guide, *args, **kwargs)
        if loss.requires_grad:
            loss.backward(retain_graph=self.retain_graph)
        return loss.item()

    def takes(self, site: Site) -> bool:
        """Whether the gradient of a site of the guide is made by the rule."""
        return True

    def reported(self) -> dict[str, Tensor]:
        """What is told beside the value, of the last training evaluation: detached scalars (), by name."""
        return {}

    def draw(self, pair: Pair, *args: Any, **kwargs: Any) -> Particles:
        """K particles from the guide."""
        return gather(pair, self.num_particles, args, kwargs)

    def _checked(self, model: Callable[..., Any], guide: Callable[..., Any], args: tuple, kwargs: dict) -> Pair:
        """The program, checked for the state that it is in; a check leaves buffers and random states as they were."""
        used = guide if self.uses_guide else None

        def check(args: tuple, kwargs: dict) -> Pair:
            modules = [*owners(model, used), *([] if self.control is None else [self.control])]
            with undone(modules, [*args, *kwargs.values()]):
                pair = self._pair_up(model, used, args, kwargs)
                self._refuse_rules_by_site(pair, args, kwargs)
            if pair.structures is not None:
                pair.structures.check = check
            return pair

        programs = (model, used, self.num_particles)
        return self._pairs.get(programs, owners(model, used), args, kwargs, lambda: check(args, kwargs))

    def _pair_up(self, model: Callable[..., Any], guide: Callable[..., Any] | None, args: tuple, kwargs: dict) -> Pair:
        pair = pair_up(model, guide, args, kwargs)
        if self.num_particles > 1:
            refuse(particles_disagree(pair, args, kwargs))
        return pair

    def _refuse_rules_by_site(self, pair: Pair, args: tuple, kwargs: dict) -> None:
        if self.rules_by_site or pair.guide is None:
            return
        with torch.random.fork_rng(cuda_devices(args)):
            drawn = latents(pair.run_guide(1, args, kwargs))
        for name, site in drawn.items():
            if (rule := (site["infer"] or {}).get("grad")) is not None:
                raise ObjectiveError(
                    f"guide site {name!r} names a gradient rule, {type(rule).__name__}, which {type(self).__name__} "
                    "would ignore: use PerSite(), or another objective that goes site by site"
                )

    def _get_trace(
        self, model: Callable[..., Any], guide: Callable[..., Any], args: tuple, kwargs: dict
    ) -> tuple[Trace, Trace]:
        drawn = self.draw(self._checked(model, guide, args, kwargs), *args, **kwargs)
        return drawn.model_trace, drawn.guide_trace


def announce(modules: list[nn.Module]) -> None:
    """Tell `pyro.infer.SVI` which parameters there are, without Pyro's store."""
    for parameter in (p for module in modules for p in module.parameters()):
        value = parameter.detach()
        value.unconstrained = weakref.ref(parameter)
        effectful(lambda value=value: value, type="param")(name=f"parameter {id(parameter)}")


class Loss(nn.Module):
    """An objective tied to a program: minus the bound in nats per datum, as a module to train.

    The datum is one of the N that the batch plate stands for, so that a subsampled plate's N/B cancels.

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
        self._checks = PerState[None]()  # of programs under Pyro's own objectives, which check none
        self._is_pyros = type(objective).__module__.startswith("pyro.")
        self._per_row: list[nn.Module] | None = None

    def forward(self, *args: Any) -> Tensor:
        model, guide = self.program.model, self.program.guide
        if not isinstance(self.objective, Objective):
            self._checks.get((model, guide), [self.program], args, {}, lambda: self._refuse(args))
        if self._is_pyros:
            model, guide = moving_once(model, [self.program]), moving_once(guide, [self.program])
        if self._per_row is None:
            self._per_row = automatic_guides([self.program])
        rows = same_rows(self._per_row) if self._per_row else nullcontext()
        batch = [x.view_as(x) if isinstance(x, Tensor) else x for x in args]  # a flow caches by tensor
        # the store is where PyroModules leave their parameters
        with pyro.get_param_store().scope(), rows, _SubsampledPlate() as plate:
            loss = self.objective.differentiable_loss(model, guide, *batch)
        return loss / max(plate.size, len(args[0]))

    def reported(self) -> dict[str, Tensor]:
        """What to tell beside the bound, of the last training evaluation: the mean of each penalty over the batch,
        unweighted, a detached scalar () by name."""
        return self.objective.reported() if isinstance(self.objective, Objective) else {}

    def _refuse(self, args: tuple) -> None:
        """Refuse a program whose latents one of Pyro's own ELBOs would draw from the prior, or straight through."""
        model_trace, guide_trace, _ = inspect_pair(self.program.model, self.program.guide, args, {})
        inner = getattr(self.objective, "objective", self.objective)  # of PyroObjective
        if fault := why_not_summed_out(inner, model_trace, guide_trace):
            raise ObjectiveError(fault)
        if not self._is_pyros or guide_trace is None:
            return
        for name, site in latents(guide_trace).items():
            if site["fn"].has_rsample and not has_path(site["fn"]):
                raise ObjectiveError(
                    f"Pyro's {type(self.objective).__name__} takes the straight-through gradient of discrete guide "
                    f"site {name!r} for that of its density, so that it is silently biased: use LeaveOneOut or "
                    "BiasedPathwise"
                )

    def explain(self, *args: Any) -> str | None:
        """Where the program is not finite on a batch, in words with site, row and cure; None if it is everywhere.

        The random state and buffers stay as they were.
        """
        program: Any = self.program
        programs = {"guide": program.guide} if getattr(self.objective, "uses_guide", True) else {}
        programs["model"] = program.model
        with undone(self, args):
            return first_fault(programs, args, {}) or first_steep_site(programs, self._learning(), args, {})

    def parameter_groups(
        self, learning_rate: float, control_learning_rate: float | None = None
    ) -> list[dict[str, Any]]:
        """The program's parameters and those of a learned control variate, for an optimizer of `torch.optim`.

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
        groups = [
            {"params": list(self.program.parameters()), "lr": learning_rate},
            {"params": self._learned_control(), "lr": faster},
        ]
        return [group for group in groups if group["params"]]

    def parts(self, *args: Any) -> dict[str, list[nn.Parameter]]:
        """What can learn, by part, so that each may have an optimizer of its own.

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
        halves = users(self.program.model, self.program.guide, self._learning, *args)
        by_half = list(zip(self._learning(), halves, strict=True))
        return {
            "model": [p for p, used_by in by_half if used_by != {"guide"}],
            "guide": [p for p, used_by in by_half if used_by == {"guide"}],
            "control": self._learned_control(),
        }

    def _learning(self) -> list[nn.Parameter]:
        return [p for p in self.program.parameters() if p.requires_grad and not is_lazy(p)]

    def _learned_control(self) -> list[nn.Parameter]:
        owned = {id(parameter) for parameter in self.program.parameters()}
        return [p for p in self.control.parameters() if id(p) not in owned] if self.control is not None else []


class _SubsampledPlate(Messenger):
    """N of a batch plate that is subsampled, seen as a loss is computed; 0 of one that holds just the batch."""

    size = 0

    def _pyro_post_sample(self, msg: Any) -> None:
        for frame in msg["cond_indep_stack"]:
            if frame.dim == -1 and frame.full_size is not None and frame.full_size > frame.size:
                self.size = max(self.size, frame.full_size)
