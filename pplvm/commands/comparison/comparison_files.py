"""The files of a comparison: configuration, metrics, arrays, figures and the report."""

import argparse
import re
import shutil
import tempfile
from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import xarray as xr
import yaml

from pplvm.commands.output.netcdf import draws_of, save
from pplvm.commands.runs.output_directory import COMPARISON, open_output
from pplvm.plots.gradients import save_figures
from pplvm.plots.overview import save_overview, title
from pplvm.plots.report import html_report
from pplvm.plots.table import write_metrics_csv

__all__ = ["close_empty", "open_directory", "write"]


def open_directory(arguments: argparse.Namespace, found: dict[str, Any]) -> Path:
    """Create the directory of a comparison and write its configuration, before anything is computed.

    Arguments:
        found: what the run made of its arguments, to stand beside or instead of them.

    Raises:
        ValueError: it exists and --overwrite is not given, or it is no comparison's. OSError: it cannot be written.
    """
    default = f"runs/compare-{datetime.now():%Y%m%d-%H%M%S}"
    directory = open_output(Path(arguments.output or default), COMPARISON, arguments.overwrite)
    unsaid = ("command", "data_given", "debug", "overwrite", "handler", "trust", "version")
    settings = {k: v for k, v in vars(arguments).items() if k not in unsaid}
    settings |= {"output": str(directory), **found}
    settings["versions"] = {name: version(name) for name in ("pplvm", "torch", "pyro-ppl", "numpy", "xarray", "arviz")}
    (directory / "config.yaml").write_text(yaml.safe_dump({"command": "compare", **settings}, sort_keys=False))
    return directory


def close_empty(directory: Path) -> None:
    """Remove the directory of a comparison that holds nothing but the configuration."""
    (directory / "config.yaml").unlink(missing_ok=True)
    if not any(directory.iterdir()):
        directory.rmdir()


def write(sections: Sequence[xr.Dataset], directory: Path) -> None:
    """Write the small files first, then the arrays by copy, since HDF5 would crash on a full disk."""
    write_metrics_csv(sections, directory / "metrics.csv")
    alone = len(sections) == 1
    folders = [directory if alone else directory / _group(section) for section in sections]
    figures = [save_figures(section, folder) for section, folder in zip(sections, folders, strict=True)]
    overview = None if alone else save_overview(sections, directory)
    page = html_report(list(zip(sections, figures, strict=True)), overview)
    (directory / "report.html").write_text(page, encoding="utf-8")
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "gradients.nc"
        for section in sections:
            save(path, section, draws_of(section), "" if alone else _group(section))
        shutil.copyfile(path, directory / "gradients.nc")


def _group(section: xr.Dataset) -> str:
    """A section's title as the name of a group of the netCDF file."""
    return re.sub(r"[^\w.]+", "-", title(section)).strip("-.")
