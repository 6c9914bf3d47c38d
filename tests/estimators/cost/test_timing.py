"""Times and their intervals: what a load does to them, what it cannot do to a verdict."""

import math

import numpy as np
import pytest
import torch

from pplvm.estimators.cost.timing import BETWEEN_RUNS, BLOCKS, Load, clock_of, now

ROUNDS = 320


def steps(milliseconds, random, load=0.0, rounds=ROUNDS):
    """Times by the wall clock and of CPU time; under a load a step waits, the longer it is the likelier."""
    cpu = np.array(milliseconds)[:, None] * np.exp(0.03 * random.normal(size=(len(milliseconds), rounds)))
    waits = random.random(cpu.shape) < load * cpu / cpu.max()
    return cpu + waits * random.uniform(2, 12, cpu.shape), cpu


def test_on_a_quiet_machine_the_interval_of_a_ratio_holds_it_and_is_narrow():
    random, covered = np.random.default_rng(0), 0
    for _ in range(60):
        clock = clock_of(steps([2.0, 3.0], random)[0], [True, True])
        ratio, variance = clock.ratios()
        half = clock.quantile * math.sqrt(variance[1, 0])
        assert BETWEEN_RUNS * 1.96 < half < 0.1
        covered += abs(ratio[1, 0] - math.log(1.5)) < half
    assert covered >= 57


def test_a_load_that_comes_in_waves_is_in_the_interval_of_a_time_but_cancels_in_a_ratio():
    """Every fifth of the run the machine is twice as slow: blocks of rounds differ, all estimators alike."""
    random = np.random.default_rng(1)
    wave = np.where(np.arange(ROUNDS) // (ROUNDS // 5) % 2, 2.0, 1.0)
    clock = clock_of(steps([2.0, 3.0], random)[0] * wave, [True, True])
    low, high = clock.interval()
    assert math.exp(high[0] - low[0]) > 1.5  # independent rounds would say 1.07
    ratio, variance = clock.ratios()
    assert math.sqrt(variance[1, 0]) < 1.3 * BETWEEN_RUNS and math.exp(ratio[1, 0]) == pytest.approx(1.5, rel=0.03)


def test_only_rounds_in_which_all_were_timed_count():
    """One is timed in the first 20 rounds alone, before a load; the other through the whole run."""
    times = np.full((3, 100), 2.0)
    times[:, 20:] = 8.0
    times[0, 20:], times[2, 5:] = np.nan, np.nan  # the third has no noise and was drawn five times
    clock = clock_of(times, [True, True, False])
    assert np.exp(clock.log) == pytest.approx([2.0, 2.0, 2.0])
    assert clock_of(np.full((1, 4), np.nan), [True]) is None


def test_few_rounds_give_wide_intervals_and_one_gives_none():
    random = np.random.default_rng(2)
    few, many = (clock_of(steps([2.0], random, rounds=n)[0], [True]) for n in (2, BLOCKS))
    assert few.quantile > 10 > 3 > many.quantile
    low, high = clock_of(np.array([[2.0]]), [True]).interval()
    assert low[0] == -math.inf and high[0] == math.inf


@pytest.mark.parametrize("load, is_busy", [(0.0, False), (0.9, True)])
def test_a_busy_machine_is_told_by_processor_time_and_by_the_spread(load, is_busy):
    found = Load.of(*steps([2.0, 7.0], np.random.default_rng(3), load), [])
    assert found.is_busy is is_busy and math.isnan(found.average)
    assert (found.share < 0.9) is is_busy and (found.spread > 2) is is_busy


def test_a_busy_machine_is_told_by_the_load_average_alone():
    wall, cpu = steps([2.0], np.random.default_rng(4))
    uneven = wall * np.where(np.arange(ROUNDS) % 3, 1.0, 1.5)
    cores, none = Load.of(wall, cpu, []).cores, np.full_like(wall, np.nan)  # a GPU has no CPU time
    many = [1.5 * cores, 1.4 * cores]
    assert not Load.of(uneven, none, [cores]).is_busy and Load.of(uneven, none, many).is_busy
    assert not Load.of(wall, cpu, many).is_busy  # they were not in the way


def test_both_clocks_run():
    began, cpu_began = now(torch.ones(1))
    while now(torch.ones(1))[1] - cpu_began < 0.01:
        pass
    end, cpu_end = now(torch.ones(1))
    assert end - began >= cpu_end - cpu_began - 0.002 and cpu_end - cpu_began >= 0.01
