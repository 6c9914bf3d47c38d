"""Marks the sections of a comparison that was interrupted before it was complete."""

from collections.abc import Sequence

import xarray as xr

from pplvm.distributed.object_collectives import error_message

__all__ = ["mark_interrupted"]


def mark_interrupted(
    sections: Sequence[xr.Dataset], planned: Sequence[tuple[str, str]], error: BaseException
) -> list[xr.Dataset]:
    """The same sections, with an attribute `ended` that says why the run ended and what was not measured.

    Arguments:
        sections: what was measured, with the attributes `program` and `checkpoint`.
        planned: program and checkpoint of all that was asked for.
        error: what ended the run.

    Example:
        >>> section = xr.Dataset(attrs={"program": "vae", "checkpoint": "fresh"})
        >>> planned = [("vae", "fresh"), ("vae", "500 steps")]
        >>> mark_interrupted([section], planned, KeyboardInterrupt())[0].attrs["ended"]
        'the run was interrupted (Ctrl-C); not measured: vae, 500 steps'
    """
    known = {(section.attrs["program"], section.attrs["checkpoint"]) for section in sections}
    missing = [f"{program}, {checkpoint}" for program, checkpoint in planned if (program, checkpoint) not in known]
    why = "was interrupted (Ctrl-C)" if isinstance(error, KeyboardInterrupt) else f"failed: {error_message(error)}"
    ended = f"the run {why}" + (f"; not measured: {'; '.join(missing)}" if missing else "")
    return [section.assign_attrs(ended=ended) for section in sections]
