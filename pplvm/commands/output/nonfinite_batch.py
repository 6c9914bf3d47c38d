"""A report on a batch whose loss or gradient is not finite, with what is needed to reproduce it."""

from typing import Any

import torch
from torch import Tensor

from pplvm.batch import as_tuple
from pplvm.commands.building.plan import Plan
from pplvm.particles.pair import draw_from_pair, inspect_pair

__all__ = ["failure_report"]


def failure_report(plan: Plan, error: Exception) -> dict[str, Any]:
    """Step, place, seed, row numbers of the batch, and each site's mean log-density on it, in nats.

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
    """The mean log-density of each site, as "model x": "nan"; the program's error where it cannot run."""
    if plan.pair is None:
        return {}
    try:
        with torch.no_grad():
            drawn = draw_from_pair(plan.pair, 1, _batch(plan), {})
    except Exception as refusal:  # of the user's program, whose fault is to be told and not hidden by another
        return {"refused": _first_line_of(refusal)}
    sides = {"model": drawn.log_p_sites, "guide": drawn.log_q_sites}
    return {
        f"{side} {name}": f"{float(term.mean()):.6g}" for side, terms in sides.items() for name, term in terms.items()
    }


def _validated(plan: Plan) -> list[str]:
    try:
        return inspect_pair(plan.loss.program.model, plan.loss.program.guide, _batch(plan), {})[2]
    except Exception as refusal:  # as above
        return [_first_line_of(refusal)]


def _batch(plan: Plan) -> tuple[Tensor, ...]:
    return () if plan.run.x is None else as_tuple(plan.run.x)


def _first_line_of(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
