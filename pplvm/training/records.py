"""Metrics of a run, step by step: JSON lines, a CSV file for spreadsheets, optionally TensorBoard.

No clock is read, so two runs of one configuration write the same bytes; TensorBoard's files are the exception.
"""

__all__ = ["Records", "TensorBoard", "require_records"]

import csv
import io
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from io import RawIOBase
from itertools import chain
from pathlib import Path
from typing import Any, SupportsFloat

from pplvm.training.atomic_write import atomic_write, write_errors_explained

LINES, TABLE = "metrics.jsonl", "metrics.csv"


class Records:
    """The metrics of one run, in `metrics.jsonl` and `metrics.csv` of its directory.

    A line is in both files when `write` returns, and outlives a killed process. A resumed run gives the files of
    one that never stopped if the records of a step are written before its checkpoint.

    Arguments:
        directory: of the run.
        resume_from_step: the step of the checkpoint from which the run goes on: records after it are dropped,
            with what a killed process left of its last line. None starts anew and drops all.

    Raises:
        ValueError: a line to be kept is no record.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     records = Records(Path(folder), resume_from_step=None)
        ...     records.write(1, {"bound": -3.5})
        ...     records.write(2, {"bound": float("nan"), "ess": 4})
        ...     records.close()
        ...     print(Path(folder, "metrics.jsonl").read_text() + Path(folder, "metrics.csv").read_text())
        {"step": 1, "bound": -3.5}
        {"step": 2, "bound": null, "ess": 4}
        step,bound,ess
        1,-3.5,
        2,,4
        <BLANKLINE>
    """

    def __init__(self, directory: Path, resume_from_step: int | None) -> None:
        self._lines, self._table = Path(directory, LINES), Path(directory, TABLE)
        kept = [] if resume_from_step is None else _kept(self._lines, resume_from_step)
        with write_errors_explained(self._lines, 0):
            atomic_write(self._lines, kept)
            self._file = open(self._lines, "ab", buffering=0)
        self._columns: dict[str, None] = {}
        self._table.unlink(missing_ok=True)  # of what is dropped
        if self._lines.stat().st_size:
            self.flush()

    def write(self, step: int, values: Mapping[str, SupportsFloat]) -> None:
        """Append one line; NaN and infinity become null.

        Arguments:
            step: to which the values belong.
            values: numbers by name, or tensors that hold one number.

        Raises:
            ValueError: one is named "step". OSError: the disk is full, and the file as it was.
        """
        if "step" in values:
            raise ValueError('no value may be named "step": the step itself is')
        record = {"step": step, **{name: _number(value) for name, value in values.items()}}
        line = f"{json.dumps(record)}\n".encode()
        with write_errors_explained(self._lines, len(line)):
            _append(self._file, line)
        if record.keys() <= self._columns.keys() and self._table.is_file():
            *_, row = _rows([record], list(self._columns))
            with write_errors_explained(self._table, len(row)), open(self._table, "ab", buffering=0) as table:
                _append(table, row)
        else:
            self.flush()

    def flush(self) -> None:
        """Rewrite the CSV file with a column for every name of any line."""
        columns = dict.fromkeys(["step"])
        for record in _records(self._lines):
            columns |= dict.fromkeys(record)
        self._columns = columns
        with write_errors_explained(self._table, self._lines.stat().st_size):
            atomic_write(self._table, _rows(_records(self._lines), list(columns)))

    def close(self) -> None:
        """Write the CSV file and close; calling it again changes nothing."""
        if not self._file.closed:
            try:
                self.flush()
            finally:
                self._file.close()


class TensorBoard:
    """The metrics for TensorBoard, an optional dependency: `pip install 'pplvm[tensorboard]'`.

    Arguments:
        directory: of its event files, which hold the time of day.
        resume_from_step: as in `Records`.

    Raises:
        ValueError: it is not installed.
    """

    def __init__(self, directory: Path, resume_from_step: int | None = None) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ValueError(f"TensorBoard is not installed ({error}): pip install 'pplvm[tensorboard]'") from error
        purge = None if resume_from_step is None else resume_from_step + 1
        self._writer = SummaryWriter(str(directory), purge_step=purge)

    def write(self, step: int, values: Mapping[str, SupportsFloat]) -> None:
        """Write one point for each name, non-finite ones included."""
        for name, value in values.items():
            self._writer.add_scalar(name, float(value), step)

    def close(self) -> None:
        """Flush and close."""
        self._writer.close()


def require_records(directory: Path, last: int | None) -> None:
    """Refuse in advance what `Records` of a run resumed at the step `last` would refuse.

    Raises:
        ValueError: a line to be kept is no record.
    """
    for _ in _kept(Path(directory, LINES), last or 0):
        pass


def _number(value: SupportsFloat) -> int | float | None:
    if type(value) is int:
        return value
    number = float(value)
    return number if math.isfinite(number) else None


def _kept(path: Path, last: int) -> Iterator[bytes]:
    """The lines of the steps up to `last`; only the file's last line may be incomplete."""
    if not path.is_file():
        return
    with open(path, "rb") as file:
        lines = file.readlines()
    for i, line in enumerate(lines):
        try:
            step = _step(line)
        except (ValueError, RecursionError) as error:
            if i == len(lines) - 1:
                return
            raise ValueError(f"{path} line {i + 1} is no record ({error}): remove the line") from error
        if step <= last:
            yield line


def _step(line: bytes) -> int:
    if not line.endswith(b"\n"):
        raise ValueError("it is torn")
    record = json.loads(line)
    if not isinstance(record, dict) or type(record.get("step")) is not int:
        raise ValueError("it has no step")
    if not all(value is None or (type(value) in (int, float) and abs(value) < 2**1000) for value in record.values()):
        raise ValueError("it holds more than numbers")
    return record["step"]


def _records(path: Path) -> Iterator[dict[str, Any]]:
    with open(path, "rb") as file:
        yield from map(json.loads, file)


def _rows(records: Iterable[Mapping[str, Any]], columns: list[str]) -> Iterator[bytes]:
    """The heading and a row for each record."""
    for record in chain([dict(zip(columns, columns, strict=True))], records):
        text = io.StringIO()
        csv.DictWriter(text, columns, lineterminator="\n").writerow(record)
        yield text.getvalue().encode()


def _append(file: RawIOBase, left: bytes) -> None:
    """Write all bytes or, if the disk is full, none."""
    end = file.seek(0, os.SEEK_END)
    try:
        while left:
            left = left[file.write(left) or 0 :]
    except OSError:
        file.truncate(end)
        raise
