"""Several evaluated runs side by side: their main figures, the rate-distortion plane, and the spread over seeds."""

__all__ = ["WRITTEN", "compare_evaluations"]

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pplvm.commands.evaluation.seeds import SeedGroup, by_seed, spread, told, values_of
from pplvm.commands.runs.trained_program import TrainedProgram
from pplvm.evaluation.code_rates import own_bound
from pplvm.evaluation.evaluation import Evaluation
from pplvm.evaluation.figures import Figure
from pplvm.plots.factor_scores import save_scores_by_beta
from pplvm.plots.rate_distortion import save_rate_distortion

TOGETHER, SCORES, SEEDS = "rate-distortion.png", "disentanglement.png", "seeds.json"
WRITTEN = (TOGETHER, SCORES, SEEDS)
"""What several runs have together."""

SHORT = {
    "DCI disentanglement": "DCI dis.",
    "DCI completeness": "DCI com.",
    "DCI informativeness": "DCI inf.",
    "FactorVAE score": "FactorVAE",
    "Higgins' score": "Higgins",
}
"""Names of scores above a column."""

DRAWN = ("MIG", "SAP", "DCI disentanglement", "FactorVAE score")
"""Scores that are drawn against beta."""


def compare_evaluations(
    every: Sequence[TrainedProgram], found: Sequence[Evaluation], directory: Path, weights: str = "latest"
) -> None:
    """Print the main figures of several runs and their spread over seeds, and plot rate against distortion.

    Arguments:
        weights: that were evaluated, "latest" or "best".
    """
    points, likelihoods = [], {each.names.log_p for each in found}
    differ = len(likelihoods) > 1  # which do not compare
    name = "log p" if differ else likelihoods.pop()
    width = max(12, len(name) + 2, *(len(each) + 9 for each in likelihoods))
    print(f"\n{'run':30}{name:>{width}}{'rate':>10}{'distortion':>12}{'beta':>8}")
    for trained, each in zip(every, found, strict=True):
        rate, distortion = _of_plane(each)
        beta = _beta(trained)
        best = _best(each)
        shown = "-" if best is None else f"{best:.2f}"
        label, on_curve = trained.directory.name, beta
        if differ:
            shown = f"{each.names.log_p} {shown}"
            label, on_curve = f"{label}, {each.names.log_p}", None
        points.append(_point(label, on_curve, rate, distortion))
        directory_told = str(trained.directory)[-29:]
        print(f"{directory_told:30}{shown:>{width}}{rate.value:10.2f}{distortion.value:12.2f}{beta:8g}")
    _tell_codes(every, found)
    groups = by_seed(every, weights)
    if not differ and (len(groups) < len(every) or any(each.disentanglement for each in found)):
        points = _tell_seeds(every, found, groups, directory, points)
    finite = [point for point in points if math.isfinite(point["rate"]) and math.isfinite(point["distortion"])]
    if len(finite) < len(points):
        unknown = ", ".join(str(point["label"]) for point in points if point not in finite)
        print(f"left out of {TOGETHER}, as rate or distortion is not finite: {unknown}")
    if finite:
        print(f"rate against distortion: {save_rate_distortion(finite, directory / TOGETHER)}")


def _tell_codes(every: Sequence[TrainedProgram], found: Sequence[Evaluation]) -> None:
    """Print what codes and data given codes cost in each run that has codes."""
    rows = [
        (t, own_bound(each.sections["codes"])) for t, each in zip(every, found, strict=True) if "codes" in each.sections
    ]
    if not rows:
        return
    heads = list(dict.fromkeys(name for _, of in rows for name in of))
    print(f"\n{'nats a datum':30}" + "".join(f"{head:>{len(head) + 2}}" for head in heads))
    for trained, of in rows:
        cells = [f"{of[head]:.4f}" if "bits" in head else f"{of[head]:.2f}" for head in heads if head in of]
        shown = "".join(f"{cell:>{len(head) + 2}}" for cell, head in zip(cells, heads, strict=False))
        print(f"{str(trained.directory)[-29:]:30}{shown}")


def _tell_seeds(
    every: Sequence[TrainedProgram],
    found: Sequence[Evaluation],
    groups: Sequence[SeedGroup],
    directory: Path,
    points: list[Mapping[str, Any]],
) -> list[Mapping[str, Any]]:
    """Print and write the spread over seeds; the points of the groups in the rate-distortion plane."""
    values = [values_of(found, group) for group in groups]
    for group, figures in zip(groups, values, strict=True):
        best = [_best(found[member]) for member in group.members]
        figures |= {} if None in best else {found[0].names.log_p: best}
    print("\nmean +- standard deviation over seeds of runs that differ in nothing else; n is the number of seeds")
    _print_table(groups, values, [found[0].names.log_p, "elbo", "rate", "distortion"])
    scores = [] if found[0].disentanglement is None else list(found[0].disentanglement.scores)
    if scores:
        print("")
        _print_table(groups, values, scores)
    if single := [group.words for group in groups if len(group.members) == 1]:
        print(f"one seed, and so no spread: {'; '.join(single)}")
    rows = [
        {"settings": dict(group.settings), "n": len(group.members), "seeds": list(group.seeds)}
        | {"runs": [str(every[member].directory) for member in group.members]}
        | {"figures": {name: _row(of) for name, of in figures.items()}}
        for group, figures in zip(groups, values, strict=True)
    ]
    (directory / SEEDS).write_text(json.dumps(rows, indent=1, default=str) + "\n", encoding="utf-8")
    print(f"\nfigures of all seeds: {directory / SEEDS}")
    if scores and len(groups) > 1 and all(set(group.settings) == {"beta"} for group in groups):
        betas = [_beta(every[group.members[0]]) for group in groups]
        drawn = {name: dict(zip(betas, (of[name] for of in values), strict=True)) for name in DRAWN}
        print(f"scores against beta: {save_scores_by_beta(drawn, directory / SCORES)}")
    if len(groups) == len(every):
        return points
    return [
        _point(
            group.words, _beta(every[group.members[0]]), *(_mean_of(name, of[name]) for name in ("rate", "distortion"))
        )
        for group, of in zip(groups, values, strict=True)
    ]


def _print_table(groups: Sequence[SeedGroup], values: Sequence[Mapping[str, list[float]]], names: list[str]) -> None:
    cells = [[told(of[name]) if name in of else "-" for name in names] for of in values]
    heads = [SHORT.get(name, name) for name in names]
    widths = [max(map(len, column)) + 2 for column in zip(heads, *cells, strict=True)]
    first = max(len(group.words) for group in groups)
    print(f"{'':{first}}   n" + "".join(f"{head:>{width}}" for head, width in zip(heads, widths, strict=True)))
    for group, row in zip(groups, cells, strict=True):
        shown = "".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True))
        print(f"{group.words:{first}}{len(group.members):4}{shown}")


def _row(values: list[float]) -> dict[str, Any]:
    mean, deviation = spread(values)
    return {"mean": mean, "standard_deviation": None if math.isnan(deviation) else deviation, "values": values}


def _mean_of(name: str, values: list[float]) -> Figure:
    mean, deviation = spread(values)
    return Figure(name, mean, None if math.isnan(deviation) else deviation, "nats")


def _beta(trained: TrainedProgram) -> float:
    return trained.settings.beta if trained.settings.beta is not None else 1.0


def _best(found: Evaluation) -> float | None:
    """The mean log-likelihood, exact or of the most particles; None where there is no bound."""
    best = found.per_datum.get("log_p_exact", found.per_datum.get("log_p"))
    return None if best is None else float(best.reshape(len(best), -1)[:, -1].mean())


def _of_plane(found: Evaluation) -> tuple[Figure, Figure]:
    figures = {figure.name: figure for figure in found.sections["rate and distortion"]}
    return figures["rate"], figures["distortion"]


def _point(label: str, beta: float | None, rate: Figure, distortion: Figure) -> Mapping[str, Any]:
    """A run in the rate-distortion plane; without a beta it is on no curve of betas."""
    found: dict[str, Any] = {"label": label} | ({} if beta is None else {"beta": beta})
    for figure in (rate, distortion):
        found |= {figure.name: figure.value}
        found |= {} if figure.error is None else {f"{figure.name}_error": figure.error}
    return found
