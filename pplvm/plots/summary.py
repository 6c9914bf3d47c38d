"""What a gradient comparison says, in sentences: who wins, who is biased, and what not to rely on."""

import math

import xarray as xr

from pplvm.plots.table import by_target, number, per_estimator, ranking
from pplvm.plots.weights import weights_sentence

__all__ = ["summary"]

HEAVY = 50
"""Kurtosis from which the variance of a variance of 500 draws is a third of its square: (50 - 1) / 500 = 0.3^2."""

REPEATED = 3
"""Draws per effective draw from which replicates are said to repeat noise."""


def summary(ds: xr.Dataset) -> list[str]:
    """The verdict in sentences: for every target who wins at equal work, then who is biased or undecided."""
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
    if "weight_khat" in ds:
        sentences.append(weights_sentence(ds))
    return sentences + _alarms(ds)


def _alarms(ds: xr.Dataset) -> list[str]:
    """Why figures may not be what they seem; n draws of a minibatch cannot show a kurtosis above n."""
    sentences = []
    heavy = min(HEAVY, max(10, ds.sizes["draw"] / 2))
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


def _above(ds: xr.Dataset, variable: str, limit: float) -> list[str]:
    values = per_estimator(ds, variable)
    return [name for name in ranking(ds) if values[name] > limit]


def _winner(ds: xr.Dataset, goal: str, names: list[str]) -> str:
    verdict, work = per_estimator(ds, "verdict"), per_estimator(ds, "work")
    able = [name for name in names if verdict[name] != "biased" and work[name] >= 0]
    if not able:
        return f"Gradient of {goal}: every estimator that was measured is biased."
    if len(able) == 1:
        return f"Gradient of {goal}: {able[0]} is the only one measured that is not biased, so nothing is compared."
    first, second = able[:2]
    if work[first] == 0:
        return f"Gradient of {goal}: {first} has no variance; {second} is next."
    factor = work[second] / work[first]
    sentence = (
        f"Gradient of {goal}: at equal work {first} wins; the runner-up {second} needs "
        f"{number(factor)} times as many milliseconds for the same variance"
    )
    apart = per_estimator(ds, "work_high")[first] < per_estimator(ds, "work_low")[second]
    sentence += "." if apart else ", but their 95 % intervals overlap, so the order is not settled."
    counted = {name: value for name, value in per_estimator(ds, "work_evaluations").items() if name in able}
    cheapest = min(able, key=lambda name: (math.isnan(counted[name]), counted[name]))
    if cheapest == first:
        return sentence
    return f"{sentence} Counted in model evaluations instead of milliseconds, {cheapest} would win."
