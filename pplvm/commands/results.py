"""A directory for results, which replaces an older one only where that is allowed."""

import shutil
from pathlib import Path

__all__ = ["open_results"]

WRITTEN = (
    "evaluation.json", "evaluation.nc", "report.html", "convergence.png", "rate-distortion.png", "samples.npz",
    "samples.png", "draws.png", "reconstructions.png", "interpolation-*.png", "traversal-*.png",
)  # fmt: skip
"""What evaluations and samples leave, and --overwrite replaces."""


def open_results(directory: Path, overwrite: bool) -> Path:
    """Make the directory, empty.

    Raises:
        ValueError: it exists and may not be replaced, or holds what no such command wrote. OSError: it cannot be made.
    """
    if directory.exists():
        if not directory.is_dir():
            raise ValueError(f"{directory} is a file: name another directory with --output")
        held = list(directory.iterdir())
        if held and not overwrite:
            raise ValueError(f"{directory} exists: replace it by --overwrite, or name another with --output")
        if strange := [path.name for path in held if path.is_dir() or not any(map(path.match, WRITTEN))]:
            raise ValueError(
                f"{directory} holds {strange[0]!r}, which was not written by it: name another with --output"
            )
        shutil.rmtree(directory)
    directory.mkdir(parents=True)
    return directory
