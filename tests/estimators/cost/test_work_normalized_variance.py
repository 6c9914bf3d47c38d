"""Work with both noises: a winner is named where the intervals carry one, and only there."""

import math

import numpy as np
import pytest
import xarray as xr

from pplvm.estimators.cost.work_normalized_variance import work_of
from pplvm.plots.summary import summary
from tests.estimators.cost.test_timing import steps

NAMES = ["rloo", "disarm"]


def compared(wall, cpu, variance, error=0.005, names=NAMES, averages=()):
    """What a comparison of the elbo's gradient would say, from planted times."""
    variance, error = np.array(variance), np.full(len(variance), error)
    found = work_of(names, variance, error, (wall, cpu), averages)
    found["variance"] = ("estimator", variance)
    for end, sign in (("low", -1), ("high", 1)):
        found[f"variance_{end}"] = ("estimator", variance * np.exp(sign * 1.96 * error))
    found["work_evaluations"] = found["variance"] * 4
    found["verdict"], found["target"] = ("estimator", ["unbiased"] * len(names)), ("estimator", ["elbo"] * len(names))
    return found


def named_before(ds, wall):
    """Who wins by the rule that this one replaces: variance alone has noise, medians are of all steps of each."""
    work = ds["variance"] * np.nanmedian(wall, 1)
    low, high = work * ds["variance_low"] / ds["variance"], work * ds["variance_high"] / ds["variance"]
    first = int(np.argmin(work.values))
    others = [i for i in range(ds.sizes["estimator"]) if i != first]
    return NAMES[first] if all(float(high[first]) < float(low[i]) for i in others) else None


def winner(ds):
    return next((name for name in NAMES if f"at equal work {name} wins" in summary(ds)[0]), None)


def test_a_load_turned_the_winner_over_and_does_no_more():
    """Works of 1 and 1.03 on a quiet machine, one of them timed in 20 rounds alone, as the rest come from its graph.

    Under a load through the whole run long steps wait more often; under one that comes later, only the other's do.
    """
    random, before, after = np.random.default_rng(0), [], []
    for seed in range(30):
        wall, cpu = steps([2.0, 7.0], random, load=0.9 if seed % 3 == 2 else 0.0)
        if seed % 3 == 1:
            wall[:, 20:] *= 1.6
        wall[1, 20:], cpu[1, 20:] = np.nan, np.nan
        ds = compared(wall, cpu, [3.5, 1.03], error=0.002)
        before.append(named_before(ds, wall))
        after.append(winner(ds))
    assert before[::3].count("rloo") > 5 and set(before[1::3]) == {"disarm"}, "the load turned the old verdict over"
    assert set(after) == {None}
    assert "at equal work rloo and disarm are not told apart" in " ".join(summary(ds))


@pytest.mark.parametrize("load", [0.0, 0.6])
def test_a_large_difference_is_named_under_load_as_well(load):
    random = np.random.default_rng(1)
    for _ in range(20):
        ds = compared(*steps([2.0, 7.0], random, load), [1.0, 1.0])
        assert winner(ds) == "rloo"
        assert (float(ds.work_ratio_low.sel(estimator="disarm", other="rloo")) > 1) and "are not told" not in summary(
            ds
        )[0]


def test_the_busy_machine_is_said_in_a_sentence_and_a_quiet_one_is_not():
    random = np.random.default_rng(2)
    busy = summary(compared(*steps([2.0, 7.0], random, 0.9), [1.0, 1.0], averages=[6.0]))
    (sentence,) = (said for said in busy if said.startswith("Busy machine: "))
    assert "had the processor for" in sentence and "6.0 programs wanted its" in sentence and "differed by" in sentence
    assert not any("Busy" in said for said in summary(compared(*steps([2.0, 7.0], random), [1.0, 1.0])))


def test_intervals_hold_both_noises_and_their_ratios_agree():
    random = np.random.default_rng(3)
    quiet = compared(*steps([2.0, 7.0], random), [1.0, 1.0], error=0.1)
    width = np.log(quiet.work_high / quiet.work)
    assert (width > 1.96 * 0.1).all() and (width < 1.96 * 0.12).all()
    exact = compared(*steps([2.0, 7.0], random), [1.0, 1.0], error=0.0)
    assert (np.log(exact.work_high / exact.work) > 0.03).all()
    low, high = exact.work_ratio_low.values, exact.work_ratio_high.values
    assert np.allclose(low * high.T, 1) and low[1, 0] < float(exact.work[1] / exact.work[0]) < high[1, 0]


def test_one_without_noise_wins_no_race():
    wall, cpu = steps([2.0, 7.0, 90.0], np.random.default_rng(4))
    ds = compared(wall, cpu, [1.0, 1.0, 0.0], names=[*NAMES, "exact"])
    first = summary(ds)[0]
    assert "at equal work rloo wins; the runner-up disarm" in first and first.count("exact") == 1
    assert "exact has no noise, so no work to compare." in first
    beside_one = summary(ds.sel(estimator=["disarm", "exact"], other=["disarm", "exact"]))[0]
    assert beside_one == (
        "Gradient of elbo: disarm is the only one with noise that is not biased, so nothing is compared. exact has no "
        "noise, so no work to compare."
    )
    assert float(ds.work.sel(estimator="exact")) == float(ds.work_high.sel(estimator="exact")) == 0


def test_what_nothing_is_compared_with_stands_last():
    wall, cpu = steps([90.0, 2.0, 7.0], np.random.default_rng(5))
    ds = compared(wall, cpu, [0.0, 1.0, 1.0], names=["exact", *NAMES])
    ds["target"] = ("estimator", ["log p(x)", "elbo", "elbo"])
    first, second, *_ = summary(ds)
    assert first.startswith("Gradient of elbo: at equal work rloo wins")
    assert second == (
        "Gradient of log p(x): exact is the only one measured that is not biased, so nothing is compared."
    )


def test_times_of_which_there_are_none_are_refused():
    nothing = np.full((1, 3), np.nan)
    with pytest.raises(ValueError, match="no estimator was timed"):
        work_of(["a"], np.ones(1), np.ones(1), (nothing, nothing))


def test_an_estimator_that_was_not_timed_by_the_processor_clock_is_judged_by_the_wall(recwarn):
    wall, _ = steps([2.0, 7.0], np.random.default_rng(6))
    ds = compared(wall, np.full_like(wall, np.nan), [1.0, 1.0])
    assert winner(ds) == "rloo" and ds.ms_cpu.isnull().all() and math.isnan(ds.attrs["cpu_share"])
    assert isinstance(ds, xr.Dataset) and not recwarn.list


def test_of_many_alike_all_are_said_to_be_not_told_apart():
    """Each interval by itself would set one of 12 apart in a third of the comparisons."""
    random, names, whole = np.random.default_rng(7), [f"e{i}" for i in range(12)], 0
    for _ in range(60):
        wall, cpu = steps([3.0] * 12, random)
        ds = compared(wall, cpu, np.exp(0.03 * random.standard_normal(12)), error=0.03, names=names)
        whole += ", so nothing" not in summary(ds)[0] and "next is" not in summary(ds)[0]
    assert whole >= 52  # 57 expected at least, standard deviation 1.7
