"""The result of a comparison as one xarray dataset, which table, figures and ArviZ read."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from pplvm.estimators.cost.work_normalized_variance import work_of
from pplvm.estimators.measurements.measurement import Measurement
from pplvm.estimators.measurements.variance_and_signal import (
    kurtosis_of,
    relative_bias,
    signal_to_noise,
    variance_between,
    variance_of,
)
from pplvm.estimators.parameters import SIDES, Parameters
from pplvm.estimators.references.target import Target, target_label
from pplvm.estimators.statistics.bias import BiasTest

__all__ = ["Row", "to_dataset"]

MEANINGS = {
    "variance": "trace of the Monte Carlo covariance of the gradient within a minibatch",
    "variance_low": "lower end of its 95 % interval",
    "variance_high": "upper end of its 95 % interval",
    "variance_between": "trace of the covariance of the mean gradient between minibatches",
    "snr": "norm of the mean gradient over the root of the variance, debiased; nan below the floor",
    "snr_floor": "what a gradient without signal would read before debiasing: 1 / sqrt(replicates)",
    "t2": "Hotelling's T2 of random projections of measured minus reference gradient",
    "detectable_bias": "smallest bias along the gradient that the test sees, as a fraction of the model's or guide's "
    "gradient, the harder",
    "p_norm": "p-value of the squared norm of measured minus reference gradient, of the model's or guide's side",
    "detectable_anywhere": "smallest bias in whichever direction that keeps an estimator from being called unbiased, "
    "as a fraction of the model's or guide's gradient, the harder",
    "relative_bias": "debiased norm of measured minus reference gradient over that of the reference, of the model's or "
    "the guide's side, the larger; nan where neither stands above its noise",
    "alignment": "inner product of measured and reference gradient over the squared norm of the reference",
    "ms": "median milliseconds of a gradient, over the steps in which all estimators were timed in turn",
    "ms_low": "lower end of its 95 % interval, on a busy machine with that of CPU time",
    "ms_high": "upper end of its 95 % interval, on a busy machine with that of CPU time",
    "ms_cpu": "the same of CPU time, of all threads together",
    "work": "variance times median milliseconds",
    "work_low": "lower end of its 95 % interval, which holds the noise of variance and time",
    "work_high": "upper end of its 95 % interval, which holds the noise of variance and time",
    "work_ratio_low": "lower end of the 95 % interval of an estimator's work over that of another",
    "work_ratio_high": "upper end of the 95 % interval of an estimator's work over that of another",
    "work_evaluations": "variance times likelihood evaluations per datum",
    "group_z": "largest projection of a tensor's bias, in standard errors",
    "correlation": "trace of the covariance between two estimators at equal seeds over the root of both variances",
    "r2": "share of the variance of the score function without baseline, of the same target and K, that is removed",
    "kurtosis": "of one entry of the gradient within a minibatch, median over the entries kept; 3 if normal",
    "drawn": "how the replicates were drawn: one by one, or how many at a time through the estimator's graph",
    "rule": "family of the gradient rule: pathwise, score function, antithetic draws, ...",
    "milliseconds": "of a step that was taken by itself; nan of a replicate that was drawn with others",
    "cosine": "between one replicate gradient and the reference",
}


@dataclass(frozen=True)
class Row:
    """The results of one estimator."""

    found: list[Measurement]  # one a minibatch, each with two replicates at least
    target: Target
    particles: int
    evaluations: float  # likelihood evaluations per datum and gradient
    test: BiasTest | None
    plain: bool  # the score function without a baseline, by which control variates are measured
    drawn: str  # one by one, or how many at a time
    rule: str  # the family of the gradient rule, as of `rule_of`


def to_dataset(
    rows: Mapping[str, Row],
    parameters: Parameters,
    entries: Tensor,
    traces: Tensor,
    load_averages: Sequence[float] = (),
) -> xr.Dataset:
    """One dataset with dims chain (minibatch), draw, estimator, other, coord, group (parameter tensor), side.

    Arguments:
        rows: by estimator, at least one.
        entries: of the parameter vector whose single draws were kept.
        traces: of the covariances between estimators, in the order of rows, (E, E).
        load_averages: of the system during the run.
    """
    summaries = {name: _summary(row) for name, row in rows.items()}
    variables = {
        key: ("estimator", [summary[key] for summary in summaries.values()]) for key in next(iter(summaries.values()))
    }
    data = xr.Dataset(variables, coords={"estimator": list(rows)})
    data = data.merge(_groups(parameters, rows)).merge(_sides(rows)).merge(_draws(parameters, entries, rows))
    work = _work(rows, load_averages)
    data = data.merge(_between_estimators(rows, traces)).merge(work)
    data["work_evaluations"] = data["variance"] * data["evaluations"]
    for name, meaning in MEANINGS.items():
        data[name].attrs["long_name"] = meaning
    return data.transpose("chain", "draw", "estimator", ...).assign_attrs(work.attrs)


def _summary(row: Row) -> dict[str, float | str | int]:
    found = row.found
    variance, error = variance_of(found)
    spread = math.exp(min(1.96 * error / variance, 50.0)) if variance > 0 else 1.0
    cosines = np.concatenate([[r["cosine"] for r in m.records] for m in found])
    return {
        "target": target_label(*row.target),
        "particles": row.particles,
        "evaluations": row.evaluations,
        "replicates": sum(m.gradient.count for m in found),
        "variance": variance,
        "variance_low": variance / spread,
        "variance_high": variance * spread,
        "variance_between": variance_between(found),
        "snr": signal_to_noise(found),
        "snr_floor": 1 / math.sqrt(sum(m.gradient.count for m in found) / len(found)),
        "cosine_mean": float(np.mean(cosines)),
        "cosine_q05": float(np.quantile(cosines, 0.05)),
        "cosine_q95": float(np.quantile(cosines, 0.95)),
        **_verdict(row.test, found),
        "kurtosis": kurtosis_of(found),
        "drawn": row.drawn,
        "rule": row.rule,
        "note": "",
    }


def _work(rows: Mapping[str, Row], load_averages: Sequence[float]) -> xr.Dataset:
    """Work from all minibatches; what was timed in one round is in one column."""
    variance, error = np.array([variance_of(row.found) for row in rows.values()]).T
    chains = min(len(row.found) for row in rows.values())
    times = []
    for clock in ("milliseconds", "cpu_milliseconds"):
        of_each = [[getattr(m, clock) for m in row.found[:chains]] for row in rows.values()]
        draws = [min(len(found[chain]) for found in of_each) for chain in range(chains)]
        cut = [np.concatenate([m[:n] for m, n in zip(found, draws, strict=True)]) for found in of_each]
        times.append(np.array(cut, float))
    share = error / np.where(variance > 0, variance, 1.0)
    return work_of(list(rows), variance, np.minimum(share, 50 / 1.96), (times[0], times[1]), load_averages)


def _verdict(test: BiasTest | None, found: list[Measurement]) -> dict[str, float | str]:
    if test is None:
        missing = {
            "t2": math.nan,
            "p_value": math.nan,
            "detectable_bias": math.nan,
            "p_norm": math.nan,
            "detectable_anywhere": math.nan,
            "relative_bias": math.nan,
        }
        return {**missing, "verdict": "undecided", "reference": "none"}
    reference = found[0].reference
    assert reference is not None
    label = reference.label
    if reference.projected is not None:
        label += f" (s.e. {100 * reference.relative_error:.2g} %)"
    return {
        "t2": test.t2,
        "p_value": test.p_value,
        "detectable_bias": test.detectable,
        "p_norm": test.p_norm,
        "detectable_anywhere": test.anywhere,
        "relative_bias": relative_bias(found),
        "verdict": test.verdict,
        "reference": label,
    }


def _groups(parameters: Parameters, rows: Mapping[str, Row]) -> xr.Dataset:
    variance, z = [], []
    for row in rows.values():
        variance.append(torch.stack([m.gradient.variance for m in row.found]).mean(0).tolist())
        z.append(
            [math.nan] * len(parameters.names)
            if row.test is None
            else [float(part[part.abs().argmax()]) for part in row.test.z.reshape(len(parameters.names), -1)]
        )
    return xr.Dataset(
        {"group_variance": (("estimator", "group"), variance), "group_z": (("estimator", "group"), z)},
        coords={"estimator": list(rows), "group": list(parameters.names)},
    )


def _sides(rows: Mapping[str, Row]) -> xr.Dataset:
    mean, error = [], []
    for found in (row.found for row in rows.values()):
        present = [
            all(m.reference is not None and float(m.centre[m.parameters.side(s)].norm()) > 0 for m in found)
            for s in SIDES
        ]
        average = sum(m.alignment.mean for m in found) / len(found)
        spread = torch.stack([m.alignment.standard_error for m in found]).square().sum(0).sqrt() / len(found)
        mean.append([float(a) if p else math.nan for a, p in zip(average, present, strict=True)])
        error.append([float(e) if p else math.nan for e, p in zip(spread, present, strict=True)])
    return xr.Dataset(
        {"alignment": (("estimator", "side"), mean), "alignment_se": (("estimator", "side"), error)},
        coords={"estimator": list(rows), "side": list(SIDES)},
    )


def _between_estimators(rows: Mapping[str, Row], traces: Tensor) -> xr.Dataset:
    """Correlations between noisy estimators, and variance relative to the plain score function's."""
    names = list(rows)
    variance = torch.tensor([variance_of(row.found)[0] for row in rows.values()])  # (E,), zero without any noise
    scale = torch.where(variance > 0, traces.diagonal(), math.nan).sqrt()
    kinds = [(row.target, row.particles) for row in rows.values()]
    plain = {kind: v for kind, v, row in zip(kinds, variance, rows.values(), strict=True) if row.plain}
    left = [v / plain.get(kind, math.nan) for kind, v in zip(kinds, variance, strict=True)]
    return xr.Dataset(
        {
            "correlation": (("estimator", "other"), (traces / scale / scale.unsqueeze(1)).numpy()),
            "r2": ("estimator", [1 - float(share) for share in left]),
        },
        coords={"estimator": names, "other": names},
    )


def _draws(parameters: Parameters, entries: Tensor, rows: Mapping[str, Row]) -> xr.Dataset:
    chains = min(len(row.found) for row in rows.values())
    cut = {name: row.found[:chains] for name, row in rows.items()}
    draws = min(len(m.records) for found in cut.values() for m in found)

    def records(key: str) -> np.ndarray:
        return np.stack([[[r[key] for r in m.records[:draws]] for m in found] for found in cut.values()], -1)

    times = np.stack([[m.milliseconds[:draws] for m in found] for found in cut.values()], -1)
    kept = np.stack([[torch.stack(m.entries[:draws]).numpy() for m in found] for found in cut.values()], 2).astype(
        np.float32
    )
    dims = ("chain", "draw", "estimator")
    coords = {
        "chain": range(chains),
        "draw": range(draws),
        "estimator": list(rows),
        "coord": [parameters.entry_name(int(i)) for i in entries],
    }
    single = {key: (dims, records(key)) for key in ("loss", "grad_norm", "cosine")}
    return xr.Dataset({**single, "milliseconds": (dims, times), "grad": ((*dims, "coord"), kept)}, coords=coords)
