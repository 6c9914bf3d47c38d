"""Reads numeric tables, `.csv` and `.tsv`, that nobody vouches for."""

__all__ = ["TABLE_ENDINGS", "Table", "is_table", "read_table", "table_of"]

import csv
import gzip
import io
import warnings
import zlib
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from pplvm.data.array_splits import SplitArrays, label_numbers
from pplvm.data.split_names import LABEL_WORDS

TABLE_ENDINGS = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
ROW_NUMBERS = ("", "unnamed: 0", "index", "id")  # as pandas writes and others call them
MOST_BYTES = 2**32  # of text, unpacked
LONGEST_LINE = 2**24  # of the first, which names the columns
VALUES_AT_ONCE = 2**22
BUFFER = 2**20  # bytes read at once
LARGEST_INT32, LARGEST_INT64 = 2**31 - 1, 2**63 - 1


class Table(NamedTuple):
    """The numbers of a table, its column of labels, and the names of its other columns."""

    rows: np.ndarray
    labels: list[str | int | None] | None = None
    remarks: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()


def is_table(path: Path) -> bool:
    """Whether a file name has the ending of a table."""
    return path.name.lower().endswith(TABLE_ENDINGS)


def read_table(path: Path) -> SplitArrays:
    """Read the rows of a table, (N, D) integers or floats, with or without a header.

    Columns stand between commas, semicolons or tabs. A column called label, class, target or y (or in the plural)
    that holds integers or words is labels, not known where it holds nothing or -1; one of different integers called
    id, index or nothing numbers the rows and is left out; both are told in the source's remarks.

    Arguments:
        path: of the file, gzip-compressed if its name ends in .gz.
    Raises FileNotFoundError, and ValueError for words, missing values and rows of other lengths, with row and column.
    """
    table = table_of(path)
    labels = {} if table.labels is None else label_numbers({"all": table.labels})
    return SplitArrays({"all": table.rows}, labels, table.remarks)


def table_of(path: Path) -> Table:
    """Read a table, its labels as they stand; errors as of `read_table`."""
    if not path.is_file():
        wrong = f"{path} is no regular file" if path.exists() else f"there is no file {path}"
        raise FileNotFoundError(f"{wrong}: give the path of a table such as .csv")
    try:
        with _text(path) as file:
            first = file.readline(LONGEST_LINE)
        separator = _separator(path, first)
        fields = next(csv.reader([first], delimiter=separator), [])
        named = _names_columns(fields)
        names = [field.strip("# \r\n") for field in fields] if named else [str(i) for i in range(len(fields))]
        with _text(path) as file:
            columns = _columns(file, path, separator, names, int(named))
    except (UnicodeDecodeError, EOFError, OSError, csv.Error, zlib.error) as error:
        raise ValueError(f"{path} cannot be read as a table of text ({error}): save it as CSV in UTF-8") from error
    return _sorted_out(columns, names, named, path.name)


def _text(path: Path) -> IO[str]:
    opened = gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb")
    return io.TextIOWrapper(io.BufferedReader(_Bounded(opened, path), BUFFER), encoding="utf-8-sig", newline="")


class _Bounded(io.RawIOBase):
    """A binary file that is read up to `MOST_BYTES`, since a small compressed one may unpack without end."""

    def __init__(self, file: Any, path: Path) -> None:
        self.file, self.path, self.left = file, path, MOST_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self.file.read(len(buffer))
        self.left -= len(content)
        if self.left < 0:
            raise ValueError(f"{self.path} holds more than {MOST_BYTES:,} bytes of text: save it as .npy")
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        self.file.close()
        super().close()


def _separator(path: Path, first: str) -> str:
    if ".tsv" in "".join(path.suffixes[-2:]).lower():
        return "\t"
    return max(",;\t", key=first.count)


def _names_columns(fields: list[str]) -> bool:
    """Whether a first line is a header: words, or words beside columns numbered 0, 1, 2, ..."""
    words = [field for field in fields if not _is_number(field)]
    numbers = [field.strip() for field in fields if _is_number(field)]
    counted = numbers in ([str(i) for i in range(len(numbers))], [str(i + 1) for i in range(len(numbers))])
    if not words:
        return counted and len(numbers) > 2 and numbers[0] == "0"
    return not numbers or (counted and (len(numbers) > 2 or words == [""]))


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _columns(file: IO[str], path: Path, separator: str, names: list[str], skipped: int) -> list[np.ndarray]:
    """The columns, each of integers, floats or words."""
    import pandas as pd

    parts: list[list[np.ndarray]] = [[] for _ in names]
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            pd.read_csv(
                file, sep=separator, header=None, skiprows=skipped, low_memory=False,
                chunksize=max(1, VALUES_AT_ONCE // max(1, len(names))),
            ) as reader,
        ):  # fmt: skip
            for frame in reader:
                if len(frame.columns) != len(names):
                    raise ValueError(
                        f"{path}: row 0 has {len(frame.columns)} columns, and the first line names {len(names)}: "
                        "give all rows one length"
                    )
                for number, part in enumerate(parts):
                    part.append(_values(frame[number], names[number], path))
    except pd.errors.EmptyDataError:
        return [np.empty(0, np.int32) for _ in names]
    except pd.errors.ParserError as error:
        reason = " ".join(str(error).split()).removeprefix("Error tokenizing data. C error: ")
        raise ValueError(f"{path}: {reason}: give all rows one length") from error
    return [_joined(part) for part in parts]


def _values(column: Any, name: str, path: Path) -> np.ndarray:
    """A column as int32, int64, float32, or objects if any entry is a word; only labels may be missing."""
    missing = column.isna().to_numpy()
    if missing.any() and name.lower() not in LABEL_WORDS:
        _refuse_missing(int(column.index[missing.argmax()]), name, str(path))
    if missing.any():
        return np.array([None if absent else value for value, absent in zip(column, missing, strict=True)], object)
    values = column.to_numpy()
    if values.dtype.kind == "b":
        return values.astype(np.int32)
    if values.dtype.kind == "f":
        with np.errstate(over="ignore"):  # infinity is refused with its row by whoever makes data of it
            return values.astype(np.float32)
    if values.dtype.kind in "iu":
        small = max(-int(values.min()), int(values.max())) <= LARGEST_INT32
        return values.astype(np.int32) if small else values
    return values.astype(object)


def _refuse_missing(row: int, column: str, where: str) -> None:
    raise ValueError(
        f"{where}: row {row} (the first is 0) has no value in column {column!r}: fill it in, or leave the row out"
    )


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([part.astype(object) for part in parts] if any(p.dtype == object for p in parts) else parts)


def _sorted_out(columns: list[np.ndarray], names: list[str], named: bool, name: str) -> Table:
    """Split a table into data, labels and row numbers by the names of its columns."""
    kept, remarks, labels = list(range(len(columns))), [], None
    if named and all(map(_is_number, names)):
        remarks.append(f"{name}: its first line, {','.join(names[:3])},..., is read as names of columns")
    for number in [i for i in kept if named and names[i].lower() in ROW_NUMBERS and _counts(columns[i])]:
        kept.remove(number)
        remarks.append(f"{name}: column {names[number]!r} numbers the rows and is left out")
    candidates = [i for i in kept if named and names[i].lower() in LABEL_WORDS]
    integers = [i for i in candidates if _is_labels(columns[i])]
    for number in [i for i in candidates if i not in integers and columns[i].dtype == object]:
        _refuse_missing(list(columns[number]).index(None), names[number], name)
    remarks += [f"{name}: column {names[i]!r} holds fractions and is data" for i in candidates if i not in integers]
    if len(integers) > 1:
        raise ValueError(f"{name}: columns {' and '.join(names[i] for i in integers)} may be labels: leave one in")
    for number in integers:
        kept.remove(number)
        labels = [str(v) if isinstance(v, str) else None if v is None else int(v) for v in columns[number]]
        remarks.append(f"{name}: column {names[number]!r} is labels and no data")
    for number in kept:
        if columns[number].dtype == object:
            _refuse_words(columns[number], names[number], name)
    rows = _stacked([columns[i] for i in kept], len(columns[0]) if columns else 0)
    return Table(rows, labels, tuple(remarks), tuple(names[i] for i in kept) if named else ())


def _is_labels(column: np.ndarray) -> bool:
    """Whether a column holds integers or words, or nothing for an unknown label."""
    if column.dtype == object:
        return all(value % 1 == 0 for value in column if isinstance(value, float))
    return column.dtype.kind in "iu" or bool((column % 1 == 0).all())


def _counts(column: np.ndarray) -> bool:
    return column.dtype.kind in "iu" and len(np.unique(column)) == len(column)


def _refuse_words(column: np.ndarray, name: str, where: str) -> None:
    row = next((i for i, value in enumerate(column) if isinstance(value, str) and not _is_number(value)), None)
    if row is None:  # spelled in a way that pandas does not read, or beyond 64 bits
        row = next(i for i, value in enumerate(column) if isinstance(value, str) or abs(value) > LARGEST_INT64)
    value = str(column[row])
    told = value if len(value) < 40 else value[:40] + "..."
    if _is_number(value.replace(",", ".")) or _is_number(value.replace(",", "")):
        cure = "write numbers with a point for the decimals and no other mark"
    else:
        cure = "leave the column out, number its words, or call it label"
    raise ValueError(
        f"{where}: row {row} (the first is 0) holds {told!r} in column {name!r}, which is no number: {cure}"
    )


def _stacked(columns: list[np.ndarray], length: int) -> np.ndarray:
    """Stack columns, (N, D), float32 if any is float."""
    dtype = np.result_type(*{c.dtype for c in columns}) if columns else np.int32
    dtype = np.float32 if np.dtype(dtype).kind == "f" else dtype
    rows = np.empty((length, len(columns)), dtype)
    for number, column in enumerate(columns):
        rows[:, number] = column
    return rows
