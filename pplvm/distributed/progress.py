"""Progress bars on a terminal or in a notebook; plain lines now and then where stderr is a file."""

import os
import sys
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Self

from tqdm import TqdmWarning, tqdm

from pplvm.distributed.ranks import is_first

__all__ = ["Bar", "bar", "write"]

SECONDS = 10.0
"""Before a file gets its first line, and at least from one line to the next."""

GROWTH, LONGEST = 0.1, 600.0
"""Lines grow as rare as a tenth of the time that has passed, so that a day leaves about a hundred; at least one in ten
minutes."""

WIDE = 80
"""Columns from which on a bar has room for the speed."""

LEAST = 7
"""Columns for the bar itself, before there is room for figures beside it."""


class Bar(ABC):
    """A progress bar, as a context manager that leaves nothing behind on a terminal."""

    @abstractmethod
    def at(self, done: int, told: Mapping[str, float] | None = None) -> None:
        """Update the bar: `done` steps are done.

        Arguments:
            done: of the total.
            told: figures to stand beside it from now on, the most important ones first.
        """

    @abstractmethod
    def next(self, what: str, total: int) -> None:
        """Begin another part of the work, unless it has begun already."""

    @abstractmethod
    def close(self) -> None:
        """Remove the bar."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def bar(what: str, total: int, done: int = 0, *, unit: str = "", shown: bool | None = None) -> Bar:
    """A progress bar on stderr, of the first rank only.

    Arguments:
        what: is done; empty where it goes without saying.
        total: how much there is to do.
        done: of it before.
        unit: what is counted, in the plural.
        shown: None for a bar on a terminal or in a notebook and nothing elsewhere, True for lines in a file too,
            False for nothing.

    Example:
        >>> with bar("replicates", 3, shown=False) as shown:
        ...     for i in range(3):
        ...         shown.at(i + 1)
    """
    if shown is False or total <= 0 or not is_first():
        return _Nothing()
    if (in_notebook := _is_in_notebook()) or sys.stderr.isatty():
        return _Live(what, total, done, unit, in_notebook)
    return _Lines(what, total, done, unit) if shown else _Nothing()


def write(words: str) -> None:
    """Write a line on stderr, above the bars."""
    tqdm.write(words, file=sys.stderr)


class _Nothing(Bar):
    def at(self, done: int, told: Mapping[str, float] | None = None) -> None:
        pass

    def next(self, what: str, total: int) -> None:
        pass

    def close(self) -> None:
        pass


class _Live(Bar):
    """A bar of tqdm, with as many figures as leave room for it."""

    def __init__(self, what: str, total: int, done: int, unit: str, in_notebook: bool) -> None:
        fixed, self._columns = _columns()
        self._what, self._unit = what, unit
        self._told: Mapping[str, float] | None = None
        speed = ", {rate_noinv_fmt}" if self._columns >= WIDE else ""
        left = " left" if self._columns >= WIDE else ""
        self._tqdm = _tqdm(in_notebook)(
            desc=f"{what}: " if what else None, total=total, initial=done, unit=f" {unit or 'it'}",
            bar_format="{desc}{n_fmt}/{total_fmt} |{bar}| {remaining}" + left + speed + "{postfix}",
            ncols=fixed and fixed - 1, dynamic_ncols=fixed is None, nrows=20,  # a terminal may say that it has no rows
            file=sys.stderr, leave=False,
        )  # fmt: skip

    def at(self, done: int, told: Mapping[str, float] | None = None) -> None:
        if told is not None and told is not self._told:
            self._told = told
            self._tqdm.set_postfix_str(", ".join(self._fitting(_figures(told))), refresh=False)
        self._tqdm.update(done - self._tqdm.n)

    def next(self, what: str, total: int) -> None:
        if what != self._what or total != self._tqdm.total:
            self._what = what
            self._tqdm.reset(total)
            self._tqdm.set_description(what)

    def close(self) -> None:
        self._tqdm.close()

    def _fitting(self, figures: list[str]) -> list[str]:
        """The first figures that leave room for the bar."""
        total = f"{self._tqdm.total}"
        taken = len(self._tqdm.desc + f"{total}/{total} || 00:00") + LEAST
        taken += len(f" left, 9999.99 {self._unit}/s") if self._columns >= WIDE else 0
        kept = []
        for figure in figures:
            taken += len(f", {figure}")
            if taken >= self._columns:
                break
            kept.append(figure)
        return kept


class _Lines(Bar):
    """A plain line now and then, for files."""

    def __init__(self, what: str, total: int, done: int, unit: str) -> None:
        self._what, self._total, self._done, self._unit = what, total, done, unit
        self._told: list[str] = []
        self._began = self._last = time.monotonic()

    def at(self, done: int, told: Mapping[str, float] | None = None) -> None:
        self._done = done
        self._told = self._told if told is None else _figures(told)
        now = time.monotonic()
        if now - self._last >= min(max(SECONDS, GROWTH * (now - self._began)), LONGEST):
            self._last = now
            what = f"{self._what}: " if self._what else ""
            unit = f" {self._unit}" if self._unit else ""
            write(f"{what}{', '.join([f'{done:,} of {self._total:,}{unit}', *self._told])}")

    def next(self, what: str, total: int) -> None:
        self._what, self._total = what, total

    def close(self) -> None:
        pass


def _figures(told: Mapping[str, float]) -> list[str]:
    return [f"{name} {value:.2f}" for name, value in told.items()]


def _columns() -> tuple[int | None, int]:
    """The terminal's fixed width if COLUMNS gives it, else None; and its present width."""
    if (words := os.environ.get("COLUMNS", "")).isdecimal() and int(words) > 0:
        return int(words), int(words)
    try:
        columns = os.get_terminal_size(sys.stderr.fileno()).columns
    except (OSError, ValueError):  # a notebook's
        columns = 0
    return (None, columns) if columns else (WIDE, WIDE)


def _is_in_notebook() -> bool:
    """Whether this runs in a Jupyter kernel, which has progress bars of its own."""
    interactive = sys.modules.get("IPython")
    shell = None if interactive is None else interactive.get_ipython()
    return shell is not None and "IPKernelApp" in shell.config


def _tqdm(in_notebook: bool) -> Any:
    if not in_notebook:
        return tqdm
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TqdmWarning)  # without ipywidgets the bar is one of text
        from tqdm.auto import tqdm as of_notebooks
    return of_notebooks
