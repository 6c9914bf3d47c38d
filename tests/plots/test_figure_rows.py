"""Figures as rows: rounded to their errors, aligned at the point."""

from pplvm.plots.figure_rows import figure_cells, figure_lines

ROWS = [
    {"name": "log p(x)", "value": -85.12345, "error": 0.0678, "unit": "nats", "note": "k = 5000, +- 0.1 by its draws"},
    {"name": "active units", "value": 17, "error": None, "unit": "units"},
    {"name": "broken", "value": float("nan"), "error": float("nan")},
    {"name": "verdict", "value": "all well", "unit": None},
    {"name": "large", "value": 1234.5, "error": 12.0, "unit": "nats"},
]


def test_values_are_aligned_at_the_point_and_errors_beside_them():
    lines = figure_lines(ROWS)
    assert lines[1] == "    k = 5000, ± 0.1 by its draws"
    first, units, broken, verdict, large = (line for line in lines if not line.startswith(" "))
    assert first.index(".") == units.index("17") + 2 == large.index("1234") + 4
    assert first.index("±") == large.index("±")
    assert broken.endswith("no figure") or "no figure" in broken
    assert "all well" in verdict and "nan" not in "".join(lines) and "None" not in "".join(lines)


def test_long_notes_are_wrapped():
    lines = figure_lines([{"name": "x", "value": 1.5, "note": "a word " * 60}], width=60)
    assert len(lines) > 6 and all(len(line) <= 60 for line in lines)


def test_an_error_of_zero_or_none_is_not_shown():
    for error in (0.0, None, float("inf")):
        assert figure_cells({"name": "x", "value": 2.0, "error": error})["error"] == ""
