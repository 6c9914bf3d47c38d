"""Adapters for Pyro's own ELBOs and SVI: checks, a loss in nats per datum, and parameters by name."""

import weakref
from typing import Any

from pyro.infer import ELBO
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import effectful
from torch import Tensor, nn

from pplvm.objectives.estimate import ObjectiveError
from pplvm.objectives.latents_without_guide import why_latents_are_wrong
from pplvm.objectives.refused_sites import why_pyro_refuses_random_lower_bounds
from pplvm.particles.contract import latents
from pplvm.particles.pair import inspect_pair
from pplvm.particles.reparameterized_sites import is_reparameterized
from pplvm.particles.side_effects import updating_buffers_once

__all__ = ["loss_per_datum", "register_with_pyro", "require_right"]


def loss_per_datum(objective: ELBO, program: nn.Module, args: tuple) -> Tensor:
    """An ELBO's loss divided by the number of data that the batch stands for, ().

    Arguments:
        objective: has `differentiable_loss`.
        program: with methods `model` and `guide`.
        args: a batch.
    """
    model: Any = program.model
    guide: Any = program.guide
    if _is_pyros(objective):
        model, guide = updating_buffers_once(model, [program]), updating_buffers_once(guide, [program])
    with _SubsampledPlate() as plate:
        loss = objective.differentiable_loss(model, guide, *args)  # type: ignore[attr-defined]
    return loss / max(plate.size, len(args[0]))


def require_right(objective: ELBO, program: nn.Module, args: tuple) -> None:
    """Refuse a program whose latents an ELBO of Pyro would draw from the prior, or differentiate straight through.

    Arguments:
        objective, program, args: as of `loss_per_datum`.

    Raises:
        ObjectiveError: say, the guide leaves out a latent of the model.
    """
    model: Any = program.model
    guide: Any = program.guide
    model_trace, guide_trace, _ = inspect_pair(model, guide, args, {})
    inner = getattr(objective, "objective", objective)  # of PyroObjective
    for why in (why_latents_are_wrong, why_pyro_refuses_random_lower_bounds):
        if fault := why(inner, model_trace, guide_trace):
            raise ObjectiveError(fault)
    if not _is_pyros(objective) or guide_trace is None:
        return
    for name, site in latents(guide_trace).items():
        if site["fn"].has_rsample and not is_reparameterized(site["fn"]):
            raise ObjectiveError(
                f"Pyro's {type(objective).__name__} takes the straight-through gradient of discrete guide "
                f"site {name!r} for that of its density, so that it is silently biased: use LeaveOneOut or "
                "BiasedPathwise"
            )


def register_with_pyro(modules: list[nn.Module]) -> None:
    """Register parameters with `pyro.infer.SVI` without Pyro's parameter store."""
    for parameter in (p for module in modules for p in module.parameters()):
        value = parameter.detach()
        value.unconstrained = weakref.ref(parameter)
        effectful(lambda value=value: value, type="param")(name=f"parameter {id(parameter)}")


def _is_pyros(objective: ELBO) -> bool:
    return type(objective).__module__.startswith("pyro.")


class _SubsampledPlate(Messenger):
    """A Pyro messenger that notes the size N of a subsampled batch plate; 0 if it is not subsampled."""

    size = 0

    def _pyro_post_sample(self, msg: Any) -> None:
        for frame in msg["cond_indep_stack"]:
            if frame.dim == -1 and frame.full_size is not None and frame.full_size > frame.size:
                self.size = max(self.size, frame.full_size)
