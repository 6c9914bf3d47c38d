"""The printed table: order, marks, width, figures that are missing; the metrics file."""

import csv
import math

import numpy as np
import pytest

from pplvm.plots.table import (
    by_target,
    interval,
    number,
    ranking,
    relative_work,
    rows,
    text_table,
    write_metrics_csv,
)


def test_ranking_is_by_work_and_biased_last(compared):
    ds = compared(5)
    ds["verdict"][:] = ["biased", "unbiased", "undecided", "unbiased", "unbiased"]
    ds["work"][:] = [0.1, 5.0, 0.2, np.nan, 3.0]
    names = list(ds["estimator"].values)
    assert ranking(ds) == [names[i] for i in (2, 4, 1, 3, 0)]


def test_the_yardstick_is_the_best_unbiased_estimator_of_the_same_target(compared):
    ds = compared(5)
    ds["verdict"][:] = ["biased", "unbiased", "unbiased", "unbiased", "unbiased"]
    ds["target"][:] = ["elbo", "elbo", "elbo", "elbo", "iwae-16"]
    ds["work"][:] = [1.0, 4.0, 2.0, 0.0, 50.0]
    assert list(relative_work(ds).values()) == [0.5, 2.0, 1.0, 0.0, 1.0]


@pytest.mark.parametrize("count", [4, 9, 28])
@pytest.mark.parametrize("width", [80, 100, 120])
def test_the_table_fits_the_terminal_and_is_aligned(compared, count, width):
    ds = compared(count)
    lines = text_table(ds, width).splitlines()
    table = lines[: lines.index("")]
    members = [line for line in table if not line.startswith("gradient of ")]
    assert max(map(len, lines)) <= width
    assert {len(line) for line in members} == {len(table[1])}
    assert [line.split()[0] for line in members[2:]] == [name for names in by_target(ds).values() for name in names]
    assert {"estimator", "verdict", "variance"} <= set(table[0].split())
    assert width == 80 or {"K", "evals", "ms"} <= set(table[0].split())


def test_no_column_is_left_out_for_which_there_is_room(compared):
    ds = compared(9)
    cells = rows(ds)
    for width in range(80, 140, 3):
        lines = text_table(ds, width).splitlines()
        told = next((line for line in lines if line.startswith("left out to fit")), "")
        for column in told.partition("columns: ")[2].rstrip(".").split(", ") if told else []:
            wider = max(len(column), *(len(row[column]) for row in cells)) + 2
            assert len(lines[1]) + wider > width, (width, column)


def test_rows_stand_under_their_target(compared):
    lines = text_table(compared(9)).splitlines()
    place = {target: lines.index(f"gradient of {target}") for target in ("elbo", "iwae-16")}
    vimco = next(i for i, line in enumerate(lines) if line.startswith("vimco"))
    assert (place["iwae-16"] < vimco) and not place["iwae-16"] < place["elbo"] < vimco


def test_biased_rows_and_only_they_are_marked(compared):
    ds = compared(14)
    biased = {row["estimator"] for row in rows(ds) if "BIASED" in row["verdict"]}
    assert biased == {"pyro-renyi", "straight-through", "gumbel-softmax"}
    assert text_table(ds).count("BIASED 42%") == 3


def test_the_interval_of_var_x_ms_stands_beside_it(compared):
    ds = compared(3)
    ds["target"][:], ds["verdict"][:] = "elbo", "unbiased"
    ds["work"][:], ds["work_low"][:], ds["work_high"][:] = [2.0, 4.0, np.nan], [1.8, 3.6, np.nan], [2.2, 4.4, np.nan]
    shown = [row["[95 %]"] for row in rows(ds)]
    assert shown == ["-", "[1.74, 2.31]", "-"]
    between = (("estimator", "other"), np.full((3, 3), 0.97))
    measured = ds.assign(work_ratio_low=between, work_ratio_high=between).assign_coords(other=ds["estimator"].values)
    assert rows(measured)[1]["[95 %]"] == "[0.970, 0.970]"  # what was measured of the pair, both noises in it
    assert "[1.74, 2.31]" in text_table(ds, 120) and "holds 1 is not told apart" in " ".join(
        text_table(ds, 120).split()
    )


def test_the_target_with_the_most_that_contend_stands_first(compared):
    ds = compared(4)
    ds["target"][:], ds["verdict"][:] = ["log p(x)", "elbo", "elbo", "wake-sleep"], "unbiased"
    ds["work"][:] = [0.0, 30.0, 20.0, 1e-9]
    assert [*by_target(ds)][0] == "elbo" and set(by_target(ds)) == {"elbo", "log p(x)", "wake-sleep"}


def test_the_legend_names_the_floor_what_could_escape_and_the_limits_of_comparison(compared):
    legend = " ".join(text_table(compared(9)).splitlines()[14:])
    assert "different targets do not compare" in legend
    assert "floor: 0.040" in legend
    assert "could have escaped (power 0.9)".replace(" ", "") in legend.replace(" ", "")
    assert "different targets" not in text_table(compared(4))


def test_the_legend_says_what_holds_in_any_direction_of_estimators_called_unbiased(compared):
    ds = compared(9)
    anywhere = np.where(ds["verdict"] == "unbiased", np.linspace(0.12, 0.2, 9), 5.0)
    anywhere[list(ds["verdict"].values).index("unbiased")] = 0.0  # without noise
    told = " ".join(text_table(ds.assign(detectable_anywhere=("estimator", anywhere))).split())
    shown = anywhere[(ds["verdict"] == "unbiased") & (anywhere > 0)]
    low, high = (number(100 * each, 2) for each in (shown.min(), shown.max()))
    assert f"nor is there, in whichever direction, one above {low} % to {high} % of it, by estimator." in told
    assert "whichever" not in text_table(ds)


def test_missing_figures_are_dashes(compared):
    ds = compared(4)
    for name in (
        "work",
        "variance",
        "variance_low",
        "variance_high",
        "cosine_mean",
        "snr_floor",
        "detectable_bias",
    ):
        ds[name][:] = np.nan
    ds["snr"][:], ds["group_z"][:] = np.nan, np.nan
    for row in rows(ds):
        assert [row[c] for c in ("variance [95 %]", "SNR", "cosine", "max |z|", "var x ms")] == ["-"] * 5
    assert "unknown" in text_table(ds)


def test_a_signal_below_the_floor_is_shown_as_below_it(compared):
    ds = compared(4)
    ds["snr"][:], ds["snr_floor"][:] = [np.nan, 0.5, 0.5, 0.5], 0.04
    shown = {row["estimator"]: row["SNR"] for row in rows(ds)}
    assert shown["pathwise"] == "<0.040" and shown["rloo"] == "0.500"


def test_numbers_keep_their_significant_digits():
    assert [number(v) for v in (0.0, 0.00123, 12.34, 54321.0, 1e9, math.inf)] == [
        *("0", "0.00123", "12.3", "54321", "1.00e+09", "inf"),
    ]
    assert interval(3e-7, 2.5e-7, 4e-7) == "3.00 [2.50, 4.00]e-07"
    assert interval(2.0, math.nan, 3.0) == "2.00"


def test_metrics_file_round_trips(compared, tmp_path):
    one, two = compared(9).assign_attrs(checkpoint="fresh"), compared(4, seed=1).assign_attrs(checkpoint="5 steps")
    path = tmp_path / "metrics.csv"
    write_metrics_csv([one, two.drop_vars("snr")], path)
    with open(path, newline="", encoding="utf-8") as file:
        records = list(csv.DictReader(file))
    assert [record["estimator"] for record in records] == ranking(one) + ranking(two)
    figures = {n for n in one if one[n].dims == ("estimator",)}
    assert set(records[0]) == {"program", "checkpoint", "estimator"} | figures
    assert [record["checkpoint"] for record in records] == ["fresh"] * 9 + ["5 steps"] * 4
    assert {record["snr"] for record in records[9:]} == {""}
    for record in records[:9]:
        row = one.sel(estimator=record["estimator"])
        for name in ("variance", "work_high", "snr"):
            np.testing.assert_equal(float(record[name]), row[name].item())
        assert record["note"] == row["note"].item()


def test_a_dataset_of_another_kind_is_refused_in_one_sentence(compared):
    with pytest.raises(ValueError, match="no variable 'work': pass what compare_gradients returned"):
        ranking(compared(4).drop_vars("work"))
