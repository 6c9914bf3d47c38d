"""A gradient comparison as one HTML page that needs nothing but itself."""

import base64
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Any

import xarray as xr

from pplvm.plots.table import interval, number, per_estimator, ranking, rows, z_score

__all__ = ["html_report", "summary"]

TEMPLATE = Path(__file__).with_name("report.html.j2")
COLUMNS_A_BLOCK = 6
COLUMNS = (
    "estimator",
    "target",
    "verdict",
    "var x ms",
    "variance [95 %]",
    "ms",
    "SNR",
    "cosine",
    "max |z|",
    "K",
    "evals",
)
ALPHA = 0.05
CAPTIONS = {
    "work": "What a given precision costs: the variance of one gradient times the milliseconds it takes, "
    "with 95 % intervals. Halving it halves the time to a gradient of given variance. The axis is "
    "logarithmic: compare where bars end, not how long they are, and only under the same heading. "
    "Hatched bars belong to biased estimators, whose low variance is no merit.",
    "snr": "Signal-to-noise ratio against the number of particles, for the model's and the guide's "
    "parameters. Grey lines show the slopes of theory for the reparametrised importance-weighted "
    "bound: the model gains as √K, the guide loses as 1/√K. Below the dashed line (shaded: its "
    "range over estimators) the signal cannot be told from zero with the replicates drawn: such "
    "points are hollow, and drawn at the floor if not positive.",
    "forest": "How long the mean gradient is along the reference, with 95 % intervals: 1 is unbiased, 0 is "
    "no signal, below 0 points the wrong way. It shows bias along the reference only; the verdict "
    "also tests all other directions. An arrow at the rim gives a value that lies outside.",
}
MEASURED = {
    "program": "program",
    "parameters": "parameters",
    "data": "data",
    "batch_size": "batch size",
    "steps": "training steps before measuring",
    "seed": "seed",
    "command": "command",
    "machine": "machine",
    "elapsed_seconds": "seconds elapsed",
    "alpha": "level of the tests",
    "power": "power at the detectable bias",
    "pplvm_version": "pplvm",
    "torch_version": "torch",
    "pyro_version": "pyro",
}


def html_report(ds: xr.Dataset, figures: Sequence[Path]) -> str:
    """One self-contained HTML page: the verdict, the table, the figures, how it was measured, definitions.

    Arguments:
        ds: what `compare_gradients` returned.
        figures: PNG files, such as `save_figures` wrote; FileNotFoundError if one does not exist.

    References:
        Hotelling, "The Generalization of Student's Ratio", 1931, Annals of Mathematical Statistics 2(3).
        Rainforth et al., "Tighter Variational Bounds are Not Necessarily Better", 2018, arXiv:1802.04537.
    """
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        program=ds.attrs.get("program", "a program"),
        data=ds.attrs.get("data", "unnamed data"),
        facts=_facts(ds),
        summary=summary(ds),
        targets=list(dict.fromkeys(per_estimator(ds, "target").values())),
        columns=COLUMNS,
        rows=rows(ds),
        verdicts=per_estimator(ds, "verdict"),
        notes=[(name, note) for name, note in per_estimator(ds, "note").items() if note],
        details=[_details(ds.sel(estimator=name), name) for name in ranking(ds)],
        figures=[(path.stem, CAPTIONS.get(path.stem, path.stem), _inlined(path)) for path in map(Path, figures)],
        blocks=_group_blocks(ds),
        unusual=_unusual_z(ds),
        alpha=ds.attrs.get("alpha", ALPHA),
        measured=_measured(ds),
    )


def summary(ds: xr.Dataset) -> list[str]:
    """The verdict in sentences: for every target who wins at equal work, then who is biased or undecided."""
    target, verdict = per_estimator(ds, "target"), per_estimator(ds, "verdict")
    sentences = []
    for goal in dict.fromkeys(target[name] for name in ranking(ds)):
        sentences.append(_winner(ds, goal, [name for name in ranking(ds) if target[name] == goal]))
    for kind, meaning in (
        ("biased", "Biased"),
        ("undecided", "Undecided, no bias found but a small one could have escaped"),
    ):
        if names := [name for name in ranking(ds) if verdict[name] == kind]:
            sentences.append(f"{meaning}: {', '.join(names)}.")
    if "biased" not in verdict.values():
        sentences.append("No estimator was found biased.")
    return sentences


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


def _details(one: xr.Dataset, name: str) -> dict[str, str]:
    """What the main table leaves out, of one estimator."""

    def share(variable: str) -> str:
        value = 100 * float(one[variable])
        return "-" if math.isnan(value) else f"{number(value, 2)} %"

    return {
        "estimator": name,
        "reference": str(one["reference"].item()),
        "replicates": f"{int(one['replicates'])}",
        "T²": number(float(one["t2"])),
        "p": number(float(one["p_value"]), 2),
        "bias": share("relative_bias"),
        "detectable bias": share("detectable_bias"),
        "cosine [5 %, 95 %]": interval(*(float(one[v]) for v in ("cosine_mean", "cosine_q05", "cosine_q95"))),
        "variance between minibatches": number(float(one["variance_between"])),
        "variance × evaluations": number(float(one["work_evaluations"])),
    }


def _facts(ds: xr.Dataset) -> list[str]:
    targets = dict.fromkeys(per_estimator(ds, "target").values())
    facts = [_counted(ds.sizes["estimator"], "estimator", "s"), f"gradient of {', '.join(targets)}"]
    if "parameters" in ds.attrs:
        facts.append(f"{int(ds.attrs['parameters']):,} parameters")
    batch = f" of {ds.attrs['batch_size']}" if "batch_size" in ds.attrs else ""
    return [*facts, _counted(ds.sizes["chain"], "fixed minibatch", "es") + batch]


def _counted(count: int, what: str, plural: str) -> str:
    return f"{count} {what}" + (plural if count != 1 else "")


def _inlined(path: Path) -> str:
    if not path.is_file():
        raise FileNotFoundError(f"no figure at {path}: write the figures with save_figures first")
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")


def _unusual_z(ds: xr.Dataset) -> float:
    """The |z| that some group of an unbiased estimator exceeds with probability alpha (Bonferroni)."""
    alpha = float(ds.attrs.get("alpha", ALPHA))
    tests = max(ds.sizes["group"], 1) * int(ds.attrs.get("projections", 1))
    return NormalDist().inv_cdf(1 - alpha / (2 * tests))


def _group_blocks(ds: xr.Dataset) -> list[dict[str, Any]]:
    """Tables of z and variance by parameter group, a few estimators each, so that a page holds them."""
    names, blocks = ranking(ds), []
    for start in range(0, len(names), COLUMNS_A_BLOCK):
        shown = names[start : start + COLUMNS_A_BLOCK]
        block = ds[["group_z", "group_variance"]].sel(estimator=shown).transpose("group", "estimator")
        lines = []
        for group, z, variance in zip(
            block["group"].values, block["group_z"].values, block["group_variance"].values, strict=True
        ):
            cells = [(z_score(a), number(b, 2), abs(a) > _unusual_z(ds)) for a, b in zip(z, variance, strict=True)]
            lines.append((str(group), cells))
        blocks.append({"names": shown, "lines": lines})
    return blocks


def _measured(ds: xr.Dataset) -> list[tuple[str, str]]:
    """How it was measured, label and value."""
    replicates = ds["replicates"].values  # (E,)
    low, high = int(replicates.min()), int(replicates.max())
    found = [(label, ds.attrs[key]) for key, label in MEASURED.items() if key in ds.attrs]
    found += [
        ("fixed minibatches", ds.sizes["chain"]),
        ("gradients per minibatch and estimator", low if low == high else f"{low} to {high}"),
        ("of which kept one by one", ds.sizes["draw"]),
    ]
    return [(label, f"{value:,.6g}" if isinstance(value, float) else str(value)) for label, value in found]
