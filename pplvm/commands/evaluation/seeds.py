"""Runs that differ by nothing but their seed, and the spread of their figures."""

__all__ = ["SeedGroup", "by_seed", "spread", "told", "values_of"]

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pplvm.commands.runs.config import settings_of
from pplvm.commands.runs.trained_program import TrainedProgram
from pplvm.evaluation.evaluation import Evaluation

OF_NO_RESULT = {"seed", "device", "compile", "data_root", "download", "tensorboard", "keep", "log_every", "save_every"}
"""Settings of a run that decide where and how it is computed, and the seed."""


MOST_TOLD = 2
"""Settings in which groups differ that name them."""


class Spread(NamedTuple):
    """The mean of a figure over seeds, and its standard deviation, nan for a single one."""

    mean: float
    deviation: float


@dataclass(frozen=True)
class SeedGroup:
    """Runs of the same settings with different seeds.

    Arguments:
        words: the settings in which groups differ, as "beta 4"; "all runs" of a single group.
        settings: the same by name.
        seeds: of its runs.
        members: places of its runs among all.
    """

    words: str
    settings: Mapping[str, Any]
    seeds: tuple[int, ...]
    members: tuple[int, ...]


def by_seed(every: Sequence[TrainedProgram], weights: str = "latest") -> list[SeedGroup]:
    """Group runs whose settings are the same but for the seed, in the order of their first runs.

    Runs of one seed are no sample of seeds: a second one of the same settings and seed makes a group of its own.

    Arguments:
        weights: "latest" or "best"; a run whose latest weights are of another step than planned is no other seed.
    """
    each = [_settings(trained, weights) for trained in every]
    names = {name: None for settings in each for name in settings}  # in their order
    differing = [name for name in names if any(settings.get(name) != each[0].get(name) for settings in each)]
    groups: list[list[int]] = []
    for place, settings in enumerate(each):
        for group in groups:
            seeds = {every[member].settings.seed for member in group}
            if each[group[0]] == settings and every[place].settings.seed not in seeds:
                group.append(place)
                break
        else:
            groups.append([place])
    found = []
    for group in groups:
        own = {name: each[group[0]].get(name) for name in differing}
        seeds = tuple(every[member].settings.seed for member in group)
        found.append(SeedGroup(_words(own, every[group[0]].directory.name), own, seeds, tuple(group)))
    return found


def spread(values: Sequence[float]) -> Spread:
    """The mean and the standard deviation over seeds.

    Example:
        >>> spread([1.0, 2.0, 3.0])
        Spread(mean=2.0, deviation=1.0)
    """
    finite = all(map(math.isfinite, values))
    deviation = statistics.stdev(values) if len(values) > 1 and finite else math.nan
    return Spread(sum(values) / len(values), deviation)


def told(values: Sequence[float]) -> str:
    """The mean over seeds and +- the standard deviation, where there are several.

    Example:
        >>> told([1.0, 2.0, 3.0]), told([0.5])
        ('2.00 +- 1.00', '0.50')
    """
    mean, deviation = spread(values)
    return f"{mean:.2f}" + ("" if math.isnan(deviation) else f" +- {deviation:.2f}")


def values_of(found: Sequence[Evaluation], group: SeedGroup) -> dict[str, list[float]]:
    """The values of each figure that all runs of a group have, by its name."""
    each: list[dict[str, float]] = []
    for member in group.members:
        figures: dict[str, float] = {}
        for figure in (figure for rows in found[member].sections.values() for figure in rows):
            figures.setdefault(figure.name, figure.value)  # the first, of which others of its name are parts
        each.append(figures)
    return {name: [figures[name] for figures in each] for name in each[0] if all(name in figures for figures in each)}


def _settings(trained: TrainedProgram, weights: str) -> dict[str, Any]:
    settings = {name: value for name, value in settings_of(trained.settings).items() if name not in OF_NO_RESULT}
    settings["beta"] = 1.0 if settings["beta"] is None else settings["beta"]
    stops_alike = weights == "latest" and settings["early_stop"] is None
    is_cut_short = stops_alike and trained.checkpoint.step != settings["steps"]
    return settings | ({"step": trained.checkpoint.step} if is_cut_short else {})


def _words(settings: Mapping[str, Any], name: str) -> str:
    """The settings of a group in words, or the name of its first run where they are many."""
    if not settings:
        return "all runs"
    if len(settings) > MOST_TOLD:
        return f"as {name}"
    shown = {name: " ".join(map(str, value)) if isinstance(value, list) else value for name, value in settings.items()}
    return ", ".join(f"{name.replace('_', ' ')} {'none' if value is None else value}" for name, value in shown.items())
