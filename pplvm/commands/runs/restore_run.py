"""Restores a training run from a checkpoint, or says why that is impossible."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pplvm.commands.building.plan import Plan
from pplvm.commands.output.status_output import print_status
from pplvm.commands.runs.manifest import changed_settings, why_not_resumable
from pplvm.training.checkpoint_format import MANIFEST, STATE
from pplvm.training.checkpoints import Checkpoint
from pplvm.training.optimizer_state import require_valid_state

__all__ = ["restore"]


def restore(plan: Plan, found: Checkpoint, manifest: dict[str, Any]) -> None:
    """Load a checkpoint into the run.

    Raises:
        ValueError: it was saved by another program or objective, or nothing is left to do, or it is not whole.
    """
    for sentence in found.skipped:
        print_status(sentence)
    with _refused_in_words(found.path / MANIFEST):
        reason, changed = why_not_resumable(found.manifest, manifest), changed_settings(found.manifest, manifest)
        rates = {part: rate / found.manifest["rates"][part] for part, rate in manifest["rates"].items()}
        moved = any(found.manifest[field] != manifest[field] for field in ("data", "batch_size"))
    if reason:
        raise ValueError(f"{found.path} cannot be resumed: {reason}")
    if found.step >= plan.arguments.steps:
        raise ValueError(f"{found.path} has {found.step} steps already: give --steps more than that")
    if changed:
        print_status(f"resuming with a change of {', '.join(changed)}: the run will not be what it would have been")
    manifest["run"] = found.manifest.get("run", manifest["run"])
    with _refused_in_words(found.path / STATE):
        plan.run.load_state_dict(found.state)
        if (states := len(found.state["random"])) != found.manifest.get("processes", states):
            raise ValueError(f"it holds the random states of {states} processes")
        if plan.run.step != found.step:
            raise ValueError(f"it is of step {plan.run.step}")
        if not moved and plan.epochs.position > plan.epochs.length:
            raise ValueError(f"it is at batch {plan.epochs.position} of {plan.epochs.length}")
        for optimizer in plan.run.stepper.optimizers.values() if ":" not in plan.arguments.optimizer else ():
            require_valid_state(optimizer)
    if moved:
        plan.skip_to_next_epoch()
    plan.run.stepper.scale_rates({part: rates[part] for part in plan.run.stepper.optimizers})


@contextlib.contextmanager
def _refused_in_words(path: Path) -> Iterator[None]:
    """Raise one clear sentence for whatever fails on a checkpoint with missing or foreign parts."""
    try:
        yield
    except Exception as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else " ".join(str(error).split())[:200]
        raise ValueError(f"{path} is not that of such a run, {reason}: use another checkpoint") from error
