"""Latents against known factors as a map, and scores of several runs against beta."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from pplvm.plots.estimator_styles import OKABE_ITO, despine, label

__all__ = ["save_factor_map", "save_scores_by_beta"]

DOTS_PER_INCH = 150


def save_factor_map(
    information: ArrayLike,
    importances: ArrayLike,
    factor_names: Sequence[str],
    latent_names: Sequence[str],
    path: str | Path,
) -> Path:
    """Write a PNG of two tables of latents by factors, each with its numbers; its path.

    Arguments:
        information: mutual information as shares of each factor's entropy, (Z, F).
        importances: of the latents to the forests that predict the factors, (Z, F).
        factor_names: F.
        latent_names: Z.
        path: the file to write, in a folder that exists.
    """
    from pplvm.plots.inline_figure import InlineFigure

    tables = {"Mutual information, share of H": information, "Importance to a forest": importances}
    Z, F = np.shape(information)
    figure = InlineFigure(figsize=(2 * (1.4 + 0.55 * F), 1.2 + 0.28 * Z), layout="constrained")
    for ax, (title, table) in zip(figure.subplots(1, 2), tables.items(), strict=True):
        values = np.asarray(table, dtype=float)
        ax.imshow(values, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for (j, k), value in np.ndenumerate(values):
            colour = "white" if value > 0.6 else "black"
            ax.text(k, j, f"{value:.2f}".replace("0.", "."), ha="center", va="center", fontsize=8, color=colour)
        ax.set_xticks(range(F), [label(name) for name in factor_names], fontsize=9, rotation=45, ha="right")
        ax.set_yticks(range(Z), [label(name) for name in latent_names], fontsize=8)
        ax.set_title(title, loc="left", fontsize=10)
        ax.set_ylabel("latent")
        ax.tick_params(length=0)
    figure.savefig(path, dpi=DOTS_PER_INCH)
    return Path(path)


def save_scores_by_beta(scores: Mapping[str, Mapping[float, Sequence[float]]], path: str | Path) -> Path:
    """Write a PNG of scores against beta: a point a run, a line through the means over seeds; its path.

    Arguments:
        scores: by name, the values of all seeds by beta.
        path: the file to write, in a folder that exists.
    """
    from pplvm.plots.inline_figure import InlineFigure

    figure = InlineFigure(figsize=(6.8, 4.2), layout="constrained")
    ax = figure.subplots()
    despine(ax)
    for colour, (name, by_beta) in zip(OKABE_ITO, scores.items(), strict=False):
        betas = sorted(by_beta)
        ax.plot(betas, [np.mean(by_beta[beta]) for beta in betas], color=colour, label=label(name))
        for beta in betas:
            ax.plot([beta] * len(by_beta[beta]), by_beta[beta], ".", color=colour, alpha=0.6)
    if min(min(by_beta) for by_beta in scores.values()) > 0:
        ax.set_xscale("log", base=2)
    ticks = sorted({beta for by_beta in scores.values() for beta in by_beta})
    ax.set_xticks(ticks, [f"{beta:g}" for beta in ticks])
    ax.set(xlabel="beta", ylabel="score", ylim=(0, 1))
    ax.legend(frameon=False, fontsize=8, ncols=2)
    ax.set_title("Scores of disentanglement; a point a seed, lines through means", loc="left", fontsize=11)
    figure.savefig(path, dpi=DOTS_PER_INCH)
    return Path(path)
