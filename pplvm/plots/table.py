"""The gradient comparison as a ranked table, printed or written as CSV."""

import csv
import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import xarray as xr

from pplvm.plots.work_ratios import contenders, is_unfinished, work_ratio

__all__ = [
    "by_target",
    "interval",
    "number",
    "per_estimator",
    "ranking",
    "relative_work",
    "rows",
    "shortened",
    "text_table",
    "write_metrics_csv",
    "z_score",
]

LEFT_ALIGNED = ("estimator", "verdict")
DROPPED_FIRST = ("cosine", "max |z|", "SNR", "[95 %]", "ms", "evals", "K")


def per_estimator(ds: xr.Dataset, variable: str) -> dict[str, Any]:
    """The values of a variable with the only dimension `estimator`, by estimator.

    Arguments:
        ds: what `compare_gradients` returned.
        variable: its name; ValueError if the data set lacks it.
    """
    if variable not in ds:
        raise ValueError(f"the data set has no variable {variable!r}: pass what compare_gradients returned")
    return dict(zip(map(str, ds["estimator"].values), ds[variable].values.tolist(), strict=True))


def ranking(ds: xr.Dataset) -> list[str]:
    """The estimators by variance x ms, best first, unknown ones last, biased ones after all others.

    Example:
        >>> import xarray as xr
        >>> values = {"work": [3.0, 1.0, 2.0], "verdict": ["unbiased", "biased", "unbiased"]}
        >>> variables = {name: ("estimator", column) for name, column in values.items()}
        >>> ranking(xr.Dataset(variables, {"estimator": ["a", "b", "c"]}))
        ['c', 'a', 'b']
    """
    work, verdict = per_estimator(ds, "work"), per_estimator(ds, "verdict")
    return sorted(work, key=lambda n: (verdict[n] == "biased", math.isnan(work[n]), work[n]))


def by_target(ds: xr.Dataset) -> dict[str, list[str]]:
    """The estimators of every target, best first; the target with most contenders comes first.

    Arguments:
        ds: what `compare_gradients` returned.
    """
    target, found = per_estimator(ds, "target"), {}
    for name in ranking(ds):
        found.setdefault(target[name], []).append(name)
    return dict(sorted(found.items(), key=lambda each: -len(contenders(ds, each[1]))))


def relative_work(ds: xr.Dataset) -> dict[str, float]:
    """Variance x ms of every estimator over that of the best of its target.

    The best must have a finite, positive figure: an estimator without variance is no yardstick.
    """
    work, target = per_estimator(ds, "work"), per_estimator(ds, "target")
    best: dict[str, float] = {}
    for name in ranking(ds):
        if 0 < work[name] < math.inf:
            best.setdefault(target[name], work[name])
    return {name: work[name] / best.get(target[name], math.nan) for name in work}


def number(value: float, digits: int = 3) -> str:
    """A number to so many significant digits, an exponent only where needed, `-` for NaN.

    Example:
        >>> number(0.012345), number(123456.0), number(1.2e-7), number(float("nan"))
        ('0.0123', '1.23e+05', '1.20e-07', '-')
    """
    if not math.isfinite(value) or value == 0:
        return "-" if math.isnan(value) else f"{value:g}"
    exponent = math.floor(math.log10(abs(value)))
    if not -3 <= exponent < 5:
        return f"{value:.{digits - 1}e}"
    return f"{value:.{max(digits - 1 - exponent, 0)}f}"


def interval(value: float, low: float, high: float) -> str:
    """Format a number and its interval with equal decimals and one exponent.

    Example:
        >>> interval(0.1234, 0.1, 0.15), interval(1.2e-5, 1.1e-5, 1.4e-5)
        ('0.123 [0.100, 0.150]', '1.20 [1.10, 1.40]e-05')
    """
    if math.isnan(low) or math.isnan(high) or not math.isfinite(value) or value == 0:
        return number(value)
    exponent = math.floor(math.log10(abs(value)))
    if -3 <= exponent < 5:
        decimals, scale, suffix = max(2 - exponent, 0), 1.0, ""
    else:
        decimals, scale, suffix = 2, 10.0**exponent, f"e{exponent:+03d}"
    shown, shown_low, shown_high = (f"{v / scale:.{decimals}f}" for v in (value, low, high))
    return f"{shown} [{shown_low}, {shown_high}]{suffix}"


def z_score(value: float) -> str:
    """Format a z-score to one decimal, `-` for NaN."""
    return "-" if math.isnan(value) else f"{round(value, 1) + 0.0:.1f}"


def shortened(name: str, width: int) -> str:
    """The name, or its last characters, which distinguish import paths.

    Example:
        >>> shortened("my_module.of_mine:MyEstimator", 16)
        '...e:MyEstimator'
    """
    return name if len(name) <= width else "..." + name[3 - width :]


def rows(ds: xr.Dataset) -> list[dict[str, str]]:
    """The cells of the table by column, one row an estimator, target by target, best first."""
    relative, found = relative_work(ds), []
    for names in by_target(ds).values():
        best, among = next((n for n in names if relative[n] == 1.0), None), len(contenders(ds, names))
        for name in names:
            found.append(_row(ds.sel(estimator=name), name, relative[name]))
            found[-1]["[95 %]"] = (
                "-" if best in (None, name) else _between(*work_ratio(ds, name, str(best), among=among))
            )
    return found


def text_table(ds: xr.Dataset, width: int = 120) -> str:
    """The comparison as an aligned table for a terminal, with a legend beneath.

    Arguments:
        ds: what `compare_gradients` returned.
        width: columns of the terminal; the less important columns are left out until the table fits.
    """
    table = rows(ds)
    goals = [row.pop("target") for row in table]
    for row in table:
        row["estimator"] = shortened(row["estimator"], 28)
    columns = _that_fit(table, width)
    left_out = [column for column in DROPPED_FIRST if column not in columns]
    lines = [_line({c: c for c in columns}, table, columns)]
    lines.append("-" * len(lines[0]))
    for goal in dict.fromkeys(goals):
        lines.append(f"gradient of {goal}")
        lines += [_line(row, table, columns) for row, own in zip(table, goals, strict=True) if own == goal]
    legend = [text for column, text in _legend(ds).items() if column not in left_out]
    if left_out:
        legend.append(f"left out to fit {width} columns: {', '.join(left_out)}.")
    lines.append("")
    for text in legend:
        lines += textwrap.wrap(text, width, subsequent_indent="  ", break_on_hyphens=False)
    return "\n".join(line.rstrip() for line in lines)


def write_metrics_csv(sections: Sequence[xr.Dataset], path: str | Path) -> None:
    """Write a CSV with one row an estimator, best first, and its scalar variables.

    Arguments:
        sections: what `compare_gradients` returned, for each program and checkpoint (attributes of these names).
        path: the file to write, in a folder that exists; an old one is overwritten.
    """
    columns = [str(name) for ds in sections for name in ds if ds[name].dims == ("estimator",)]
    records = [
        {"program": ds.attrs.get("program"), "checkpoint": ds.attrs.get("checkpoint"), "estimator": name}
        | {column: per_estimator(ds, column)[name] for column in columns if column in ds}
        for ds in sections
        for name in ranking(ds)
    ]
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["program", "checkpoint", "estimator", *dict.fromkeys(columns)])
        writer.writeheader()
        writer.writerows(records)


def _row(one: xr.Dataset, name: str, relative: float) -> dict[str, str]:
    snr, floor = float(one["snr"]), float(one["snr_floor"])
    z = abs(one["group_z"])  # (G,)
    return {
        "estimator": name,
        "target": str(one["target"].item()),
        "K": str(int(one["particles"])),
        "evals": f"{float(one['evaluations']):g}",
        "ms": number(float(one["ms"])),
        "variance [95 %]": interval(*(float(one[v]) for v in ("variance", "variance_low", "variance_high"))),
        "SNR": f"<{number(floor, 2)}" if math.isnan(snr) and not math.isnan(floor) else number(snr),
        "cosine": number(float(one["cosine_mean"]), 2),
        "max |z|": z_score(float(z.max()) if z.notnull().any() else math.nan),
        "verdict": _verdict(one["verdict"].item(), float(one["relative_bias"]), float(one["detectable_bias"])),
        "var x ms": number(relative) + ("" if math.isnan(relative) else "x"),
    }


def _between(low: float, high: float) -> str:
    return "-" if math.isnan(low) or math.isnan(high) else f"[{number(low)}, {number(high)}]"


def _verdict(verdict: str, relative_bias: float, detectable: float) -> str:
    if verdict != "biased":
        escaped = verdict == "undecided" and math.isfinite(detectable)
        return f"{verdict} <{number(100 * detectable, 2)}%" if escaped else verdict
    return "BIASED" if math.isnan(relative_bias) else f"BIASED {number(100 * relative_bias, 2)}%"


def _legend(ds: xr.Dataset) -> dict[str, str]:
    """Explanations of the columns, by the column that each needs."""
    targets = list(dict.fromkeys(map(str, ds["target"].values)))
    comparable = "; rows of different targets do not compare" if len(targets) > 1 else ""
    alpha, power = ds.attrs.get("alpha", math.nan), ds.attrs.get("power", math.nan)
    return {
        "variance [95 %]": "variance: of one gradient at a fixed minibatch, summed over coordinates.",
        "var x ms": f"var x ms: variance times milliseconds, over the best of the same target{comparable}.",
        "[95 %]": "[95 %]: of var x ms, the noise of variance and time together, for all rows of a target at "
        "once; one that holds 1 is not told apart.",
        "SNR": f"SNR: norm of the mean gradient over its noise; floor: {_range(ds, 'snr_floor')}.",
        "max |z|": "max |z|: distance from the reference of the worst parameter group, in standard errors.",
        "verdict": "verdict: none, as the comparison was not finished."
        if is_unfinished(ds)
        else f"verdict: by Hotelling's test and by the norm, at level {alpha:g}; undecided <x%: a bias below "
        f"x % of the model's or the guide's gradient, along it, could have escaped (power {power:g})"
        f"{_in_any_direction(ds)}.",
    }


def _in_any_direction(ds: xr.Dataset) -> str:
    """The size of a bias in any direction that every unbiased verdict excludes."""
    if "detectable_anywhere" not in ds:
        return ""
    found = ds.where((ds["verdict"] == "unbiased") & (ds["detectable_anywhere"] > 0), drop=True)
    if not found.sizes["estimator"]:
        return ""
    percent = _range(found, "detectable_anywhere", 100).replace(" to ", " % to ")
    return f"; unbiased: nor is there, in whichever direction, one above {percent} % of it, by estimator"


def _range(ds: xr.Dataset, variable: str, scale: float = 1.0) -> str:
    """The smallest and the largest value over estimators."""
    values = ds[variable].dropna("estimator") * scale  # (E,)
    if not values.size:
        return "unknown"
    low, high = number(float(values.min()), 2), number(float(values.max()), 2)
    return low if low == high else f"{low} to {high}"


def _widths(table: list[dict[str, str]], columns: list[str]) -> list[int]:
    return [max(len(column), *(len(row[column]) for row in table)) for column in columns]


def _table_width(table: list[dict[str, str]], columns: list[str]) -> int:
    return sum(_widths(table, columns)) + 2 * (len(columns) - 1)


def _that_fit(table: list[dict[str, str]], width: int) -> list[str]:
    """All columns that fit the width, less important ones dropped first."""
    columns, dropped = list(table[0]), []
    for column in DROPPED_FIRST:
        if _table_width(table, columns) > width:
            columns.remove(column)
            dropped.append(column)
    for column in reversed(dropped):  # for which a wider one has made room
        more = [each for each in table[0] if each in columns or each == column]
        columns = more if _table_width(table, more) <= width else columns
    return columns


def _line(row: dict[str, str], table: list[dict[str, str]], columns: list[str]) -> str:
    widths = zip(columns, _widths(table, columns), strict=True)
    return "  ".join(row[c].ljust(w) if c in LEFT_ALIGNED else row[c].rjust(w) for c, w in widths)
