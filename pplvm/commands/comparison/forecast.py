"""The forecast of a comparison's duration, printed before it begins."""

from collections import Counter
from collections.abc import Mapping

from pplvm.estimators.forecast import Forecast

__all__ = ["forecast_sentence"]

WORTH_TELLING = 30.0
"""Seconds from which on a user is told how long it takes."""


def forecast_sentence(forecast: Forecast, swept: Mapping[str, Mapping[int, object]], sweep_replicates: int) -> str:
    """Say how long a comparison takes, on what, and which options shorten it; empty where it is short.

    Arguments:
        swept: by estimator, those of the sweep by their K, whose time is taken to grow with K.
    """
    sweep = sum(
        sweep_replicates * K * forecast.seconds_each[name] / forecast.particles[name]
        for name, by_particles in swept.items()
        if name in forecast.seconds_each
        for K in by_particles
    )
    if (seconds := forecast.seconds + sweep) < WORTH_TELLING:
        return ""
    about = f"{round(seconds / 60)} minutes" if seconds >= 90 else f"{round(seconds, -1):.0f} seconds"
    times = f"x {forecast.minibatches} minibatches"
    drawn = Counter(each for each in forecast.reference_draws if each[0] != "tables")
    parts = [f"{forecast.replicates} replicates {times} x {forecast.estimators} estimators"]
    for (name, draws), targets in drawn.items():
        of_each = f"{targets} targets x " if targets > 1 else ""
        parts.append(f"{of_each}{draws} reference draws of {name} {times}")
    if sweep >= seconds / 10:
        parts.append("the sweep over K")
    options = ["--replicates", *(["--reference-draws"] if drawn else []), "--minibatches"]
    options += ["--sweep-replicates"] if sweep >= seconds / 10 else []
    return f"about {about}: {', '.join(parts)}; lower {', '.join(options)} for less"
