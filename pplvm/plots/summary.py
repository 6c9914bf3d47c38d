"""Summarizes a gradient comparison in sentences: the winner, biased estimators, and warnings."""

import math

import xarray as xr

from pplvm.plots.table import by_target, number, per_estimator, ranking
from pplvm.plots.weight_diagnostics import weights_sentence
from pplvm.plots.work_ratios import contenders, is_unfinished, work_ratio

__all__ = ["summary"]

HEAVY = 50
"""Kurtosis from which the variance of a variance of 500 draws is a third of its square: (50 - 1) / 500 = 0.3^2."""

REPEATED = 3
"""Draws per effective draw from which replicates are said to repeat noise."""


def summary(ds: xr.Dataset) -> list[str]:
    """The verdict in sentences: for every target the winner at equal work, then biased and undecided estimators.

    One that is unfinished says what is missing, and has no verdict on what was not finished.
    """
    weights = [weights_sentence(ds)] if "weight_khat" in ds else []
    return [*_unfinished(ds), *([] if is_unfinished(ds) else _verdicts(ds)), *weights, *_alarms(ds)]


def _unfinished(ds: xr.Dataset) -> list[str]:
    missing = [line for line in str(ds.attrs.get("unfinished", "")).split("\n") if line]
    missing += [str(ds.attrs["ended"])] if ds.attrs.get("ended") else []
    sentences = [f"Unfinished: {line.removesuffix('.')}." for line in missing]
    if is_unfinished(ds):
        sentences.append("So nothing is said of bias, and no winner is named: figures are those of what was drawn.")
    return sentences


def _verdicts(ds: xr.Dataset) -> list[str]:
    verdict = per_estimator(ds, "verdict")
    sentences = [_winner(ds, goal, names) for goal, names in by_target(ds).items()]
    for kind, meaning in (
        ("biased", "Biased"),
        ("undecided", "Undecided, no bias found but a small one could have escaped"),
    ):
        if names := [name for name in ranking(ds) if verdict[name] == kind]:
            sentences.append(f"{meaning}: {', '.join(names)}.")
    if "biased" not in verdict.values():
        sentences.append("No estimator was found biased.")
    return sentences


def _alarms(ds: xr.Dataset) -> list[str]:
    """Warnings on figures that may mislead: heavy tails, repeated noise, a busy machine."""
    sentences = [_busy(ds)] if ds.attrs.get("busy") else []
    heavy = min(HEAVY, max(10, ds.sizes.get("draw", 0) / 2))
    if "kurtosis" in ds and (names := _above(ds, "kurtosis", heavy)):
        sentences.append(
            f"Heavy tails: gradients of {', '.join(names)} have a kurtosis above {heavy:g} at the median entry: rare "
            "draws, perhaps not yet seen, make their variance: it may be larger than the interval says."
        )
    drawn = ds.sizes.get("chain", 1) * ds.sizes.get("draw", 1)
    if "effective_replicates" in ds and drawn >= 50:
        scarce = drawn / ds["effective_replicates"]
        if names := _above(ds.assign(scarce=scarce), "scarce", REPEATED):
            sentences.append(
                f"Repeated noise: the {drawn} gradients kept of {', '.join(names)} are worth less than a third as many "
                "independent ones (ArviZ's ESS), so do not rely on their variance, intervals and verdict."
            )
    return sentences


def _busy(ds: xr.Dataset) -> str:
    """What a busy machine means for the figures."""
    share, spread, load = (float(ds.attrs.get(key, math.nan)) for key in ("cpu_share", "timing_spread", "load_average"))
    signs = []
    if not math.isnan(share):
        signs.append(f"a step that was timed had the processor for {number(100 * share, 2)} % of its time")
    if not math.isnan(load):
        signs.append(f"{number(load, 2)} programs wanted its {int(ds.attrs['cores'])} cores")
    if not math.isnan(spread):
        signs.append(f"times of one step differed by a factor of {number(spread, 2)}")
    return (
        f"Busy machine: {', '.join(signs)}. So milliseconds and var x ms are those under this load, their intervals "
        "hold CPU time as well, and a winner is named only where both clocks agree: repeat on a quiet machine for "
        "times to quote. Variance and bias are not touched."
    )


def _above(ds: xr.Dataset, variable: str, limit: float) -> list[str]:
    values = per_estimator(ds, variable)
    return [name for name in ranking(ds) if values[name] > limit]


def _winner(ds: xr.Dataset, goal: str, names: list[str]) -> str:
    """The winner at equal work; none where intervals do not separate them."""
    verdict, variance = per_estimator(ds, "verdict"), per_estimator(ds, "variance")
    if all(verdict[name] == "biased" for name in names):
        return f"Gradient of {goal}: every estimator that was measured is biased."
    able = contenders(ds, names)
    still = [name for name in names if verdict[name] != "biased" and variance[name] == 0]
    aside = f" {_listed(still)} {'have' if len(still) > 1 else 'has'} no noise, so no work to compare." if still else ""
    if able and len(able) < 2 and still:
        one = f"{able[0]} is the only one with noise that is not biased"
        return f"Gradient of {goal}: {one}, so nothing is compared.{aside}"
    if len(still) > 1 and not able:
        return f"Gradient of {goal}: nothing is compared.{aside}"
    if len(able) < 2:
        alone = next(name for name in (*able, *still, *names) if verdict[name] != "biased")
        return f"Gradient of {goal}: {alone} is the only one measured that is not biased, so nothing is compared."
    ahead = _not_told_apart(ds, able, "ms")
    if len(ahead) > 1:
        sentence = f"Gradient of {goal}: at equal work {_listed(ahead)} are not told apart{_next(ds, able, ahead)}."
        return f"{sentence}{aside}{_by_evaluations(ds, able, None)}"
    first, second = able[:2]
    factor = per_estimator(ds, "work")[second] / per_estimator(ds, "work")[first]
    return (
        f"Gradient of {goal}: at equal work {first} wins; the runner-up {second} needs {number(factor)} times as many "
        f"milliseconds for the same variance ({_interval(ds, second, first, len(able))}).{aside}"
        f"{_by_evaluations(ds, able, first)}"
    )


def _not_told_apart(ds: xr.Dataset, able: list[str], cost: str) -> list[str]:
    """The best, and those whose work may equal its; `able` is in order of work."""
    first = able[0]
    return [first, *(name for name in able[1:] if not work_ratio(ds, name, first, cost, len(able))[0] > 1)]


def _next(ds: xr.Dataset, able: list[str], ahead: list[str]) -> str:
    """The cheapest estimator that surely needs more work than the best."""
    if not (behind := [name for name in able if name not in ahead]):
        return ""
    work = per_estimator(ds, "work")
    factor, between = number(work[behind[0]] / work[ahead[0]]), _interval(ds, behind[0], ahead[0], len(able))
    return f"; next is {behind[0]}, with {factor} times the work of {ahead[0]} ({between})"


def _interval(ds: xr.Dataset, name: str, other: str, among: int) -> str:
    return "95 % interval {} to {}".format(*map(number, work_ratio(ds, name, other, among=among)))


def _by_evaluations(ds: xr.Dataset, able: list[str], first: str | None) -> str:
    """The winner when likelihood evaluations are counted instead of milliseconds, if another one surely wins."""
    counted = per_estimator(ds, "work_evaluations")
    ordered = sorted(able, key=lambda name: (math.isnan(counted[name]), counted[name]))
    if ordered[0] == first or len(_not_told_apart(ds, ordered, "evaluations")) > 1:
        return ""
    return f" Counted in model evaluations instead of milliseconds, {ordered[0]} would win."


def _listed(names: list[str]) -> str:
    """Names as a sentence has them: a, b and c."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
