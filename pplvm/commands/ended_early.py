"""Marks on the sections of a comparison that ended before all of it was done."""

from collections.abc import Sequence

import xarray as xr

from pplvm.distributed.unison import words_of

__all__ = ["marked"]


def marked(
    sections: Sequence[xr.Dataset], planned: Sequence[tuple[str, str]], error: BaseException
) -> list[xr.Dataset]:
    """The same sections; each tells in its attribute `ended` why the run ended and what was not measured at all.

    Arguments:
        sections: what was measured, with the attributes `program` and `checkpoint`.
        planned: program and checkpoint of all that was asked for.
        error: what ended the run.

    Example:
        >>> section = xr.Dataset(attrs={"program": "vae", "checkpoint": "fresh"})
        >>> planned = [("vae", "fresh"), ("vae", "500 steps")]
        >>> marked([section], planned, KeyboardInterrupt())[0].attrs["ended"]
        'the run was interrupted (Ctrl-C); not measured: vae, 500 steps'
    """
    known = {(section.attrs["program"], section.attrs["checkpoint"]) for section in sections}
    missing = [f"{program}, {checkpoint}" for program, checkpoint in planned if (program, checkpoint) not in known]
    why = "was interrupted (Ctrl-C)" if isinstance(error, KeyboardInterrupt) else f"failed: {words_of(error)}"
    ended = f"the run {why}" + (f"; not measured: {'; '.join(missing)}" if missing else "")
    return [section.assign_attrs(ended=ended) for section in sections]
