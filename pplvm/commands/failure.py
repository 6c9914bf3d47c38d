"""What is known of a batch that gave numbers which are not finite, so that it can be tried again."""

from typing import Any

import torch
from torch import Tensor

from pplvm.batch import as_tuple
from pplvm.commands.plan import Plan
from pplvm.particles.pair import gather, inspect_pair

__all__ = ["failure_report"]


def failure_report(plan: Plan, error: Exception) -> dict[str, Any]:
    """Step, place, seed, the batch's rows in the data set, and each site's mean log-density on it, in nats.

    Last comes what the program breaks on the batch if Pyro validates it.
    """
    return {
        "reason": str(error),
        "step": plan.run.step + 1,
        "epoch": plan.epochs.epoch,
        "position": plan.epochs.position,
        "rows": plan.epochs.last_rows.tolist(),
        "seed": plan.arguments.seed,
        "log_densities": _log_densities(plan),
        "validated": _validated(plan),
    }


def _log_densities(plan: Plan) -> dict[str, str]:
    """Site by site, "model x": "nan"; the program's own words where it cannot be run."""
    if plan.pair is None:
        return {}
    try:
        with torch.no_grad():
            drawn = gather(plan.pair, 1, _batch(plan), {})
    except Exception as refusal:  # of the user's program, whose fault is to be told and not hidden by another
        return {"refused": _shortly(refusal)}
    sides = {"model": drawn.log_p_sites, "guide": drawn.log_q_sites}
    return {
        f"{side} {name}": f"{float(term.mean()):.6g}" for side, terms in sides.items() for name, term in terms.items()
    }


def _validated(plan: Plan) -> list[str]:
    try:
        return inspect_pair(plan.loss.program.model, plan.loss.program.guide, _batch(plan), {})[2]
    except Exception as refusal:  # as above
        return [_shortly(refusal)]


def _batch(plan: Plan) -> tuple[Tensor, ...]:
    return () if plan.run.x is None else as_tuple(plan.run.x)


def _shortly(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
