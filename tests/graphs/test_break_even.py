"""Compiling is worth it where many long runs are to come; where they are known, that is decided once."""

from pplvm.graphs.break_even import LOOKED, SAVED, WORTH, BreakEven


def after(runs: int, seconds: float) -> BreakEven:
    pace = BreakEven()
    for _ in range(runs):
        pace.took(seconds)
    return pace


def test_the_runs_to_come_must_save_what_it_is_worth():
    enough = WORTH / SAVED / 0.01
    assert after(LOOKED, 0.01).pays(LOOKED + round(1.01 * enough))
    assert not after(LOOKED, 0.01).pays(LOOKED + round(0.99 * enough))
    assert not after(LOOKED - 1, 0.01).pays(10**9)


def test_planned_runs_are_judged_once():
    pace = after(LOOKED, 0.01)
    assert not pace.pays(LOOKED + 10)
    assert not pace.pays(10**9)


def test_of_unknown_runs_as_many_are_to_come_as_there_were():
    pace = after(LOOKED, 0.01)
    assert not pace.pays(None)
    pace.runs, pace.seconds = 10**6, 10**4
    assert pace.pays(None)
