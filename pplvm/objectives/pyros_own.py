"""What Pyro's own ELBOs and its SVI need: refusals, a loss in nats per datum, and the parameters by name."""

import weakref
from typing import Any

from pyro.infer import ELBO
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import effectful
from torch import Tensor, nn

from pplvm.objectives.estimate import ObjectiveError
from pplvm.objectives.left_out import why_not_summed_out
from pplvm.particles.contract import latents
from pplvm.particles.pair import inspect_pair
from pplvm.particles.paths import has_path
from pplvm.particles.side_effects import moving_once

__all__ = ["announce", "loss_per_datum", "require_right"]


def loss_per_datum(objective: ELBO, program: nn.Module, args: tuple) -> Tensor:
    """The loss that an ELBO sums over a batch, divided by the number of data that the batch stands for, ().

    Arguments:
        objective: has `differentiable_loss`.
        program: with methods `model` and `guide`.
        args: a batch.
    """
    model: Any = program.model
    guide: Any = program.guide
    if _is_pyros(objective):
        model, guide = moving_once(model, [program]), moving_once(guide, [program])
    with _SubsampledPlate() as plate:
        loss = objective.differentiable_loss(model, guide, *args)  # type: ignore[attr-defined]
    return loss / max(plate.size, len(args[0]))


def require_right(objective: ELBO, program: nn.Module, args: tuple) -> None:
    """Refuse a program whose latents an ELBO of Pyro's would draw from the prior, or differentiate straight through.

    Arguments:
        objective, program, args: as of `loss_per_datum`.

    Raises:
        ObjectiveError: say, the guide leaves out a latent of the model.
    """
    model: Any = program.model
    guide: Any = program.guide
    model_trace, guide_trace, _ = inspect_pair(model, guide, args, {})
    inner = getattr(objective, "objective", objective)  # of PyroObjective
    if fault := why_not_summed_out(inner, model_trace, guide_trace):
        raise ObjectiveError(fault)
    if not _is_pyros(objective) or guide_trace is None:
        return
    for name, site in latents(guide_trace).items():
        if site["fn"].has_rsample and not has_path(site["fn"]):
            raise ObjectiveError(
                f"Pyro's {type(objective).__name__} takes the straight-through gradient of discrete guide "
                f"site {name!r} for that of its density, so that it is silently biased: use LeaveOneOut or "
                "BiasedPathwise"
            )


def announce(modules: list[nn.Module]) -> None:
    """Tell `pyro.infer.SVI` which parameters there are, without Pyro's store."""
    for parameter in (p for module in modules for p in module.parameters()):
        value = parameter.detach()
        value.unconstrained = weakref.ref(parameter)
        effectful(lambda value=value: value, type="param")(name=f"parameter {id(parameter)}")


def _is_pyros(objective: ELBO) -> bool:
    return type(objective).__module__.startswith("pyro.")


class _SubsampledPlate(Messenger):
    """N of a batch plate that is subsampled, whose N/B Pyro puts into its sum; 0 of one that holds just the batch."""

    size = 0

    def _pyro_post_sample(self, msg: Any) -> None:
        for frame in msg["cond_indep_stack"]:
            if frame.dim == -1 and frame.full_size is not None and frame.full_size > frame.size:
                self.size = max(self.size, frame.full_size)
