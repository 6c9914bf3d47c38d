"""A gradient comparison as one self-contained HTML page."""

import base64
import math
import struct
from collections.abc import Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Any

import xarray as xr

from pplvm.plots.correlations import combination_sentence
from pplvm.plots.gradients import figures_left_out
from pplvm.plots.overview import title
from pplvm.plots.summary import summary
from pplvm.plots.table import by_target, interval, number, per_estimator, ranking, rows, z_score

__all__ = ["dots_across", "html_report", "inlined", "rendered"]

PALETTE = Path(__file__).with_name("palette.css")
COLUMNS_A_BLOCK = 6
COLUMNS = (
    "estimator",
    "verdict",
    "var x ms",
    "[95 %]",
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
    "Colours tell the rule by which an estimator finds its gradient, the same in all figures. "
    "Hatched bars belong to biased estimators, whose low variance is no merit.",
    "snr": "Signal-to-noise ratio against the number of particles, for the model's and the guide's "
    "parameters, a row a target; estimators whose lines lie on each other share a label. Grey lines show the slopes "
    "of theory for the reparametrised importance-weighted bound: the model gains as √K, the guide loses as 1/√K. Below "
    "the dotted line (shaded: its range over estimators) the signal cannot be told from zero with the replicates "
    "drawn: such points are hollow, and drawn at the floor if not positive.",
    "forest": "How long the mean gradient is along the reference, with 95 % intervals: 1 is unbiased, 0 is "
    "no signal, below 0 points the wrong way. It shows bias along the reference only; the verdict "
    "also tests all other directions. An arrow at the rim gives a value that lies outside.",
    "correlation": "Correlation of two estimators' gradients at equal seeds, over all parameters. Near 1: they see the "
    "same noise, and one may serve as the other's control variate; near 0: their mean averages their noise away. An "
    "estimator that draws differently, or other numbers of particles, shows little correlation for that reason "
    "alone. Lines divide targets; estimators without noise are left out.",
    "weights": "Each point is a datum of the minibatches. Left: few of its draws count. High: the tail of its weights "
    "is heavy. Above the dashed line importance-weighted values (the bound at large K, log p(x), reweighted "
    "wake-sleep) rest on a few draws and should not be believed for that datum. Data whose largest weights repeat "
    "a few values, as those of few discrete states do, have no tail to fit: they are the ticks at the bottom.",
    "overview": "Variance × milliseconds of one gradient, and in brackets its factor over the best of the same target "
    "and column, ≈ where it is not told apart from one; green is the best, violet a thousand times worse, grey biased, "
    "without noise or not measured. Read along a row how an estimator fares from checkpoint to checkpoint, down a "
    "column who wins.",
}
FIGURES = {
    "work": "the work to a given precision",
    "snr": "signal against particles",
    "forest": "the size of the mean gradient",
    "correlation": "correlations",
    "weights": "the health of the weights",
}
MEASURED = {
    "program": "program",
    "parameters": "parameters",
    "data": "data",
    "data_read": "data as read",
    "batch_size": "batch size",
    "checkpoint": "checkpoint",
    "steps": "training steps before measuring",
    "budget": "budget, evaluations a datum",
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


def html_report(sections: Sequence[tuple[xr.Dataset, Sequence[Path]]], overview: Path | None = None) -> str:
    """One self-contained HTML page: verdict, table, figures and circumstances of each section; definitions.

    Arguments:
        sections: what `compare_gradients` returned, and PNG files, such as `save_figures` wrote, for each program
            and checkpoint; FileNotFoundError if a file does not exist.
        overview: a PNG file over all sections, such as `save_overview` wrote.

    References:
        Hotelling, "The Generalization of Student's Ratio", 1931, Annals of Mathematical Statistics 2(3).
        Rainforth et al., "Tighter Variational Bounds are Not Necessarily Better", 2018, arXiv:1802.04537.
        Vehtari et al., "Pareto Smoothed Importance Sampling", 2024, arXiv:1507.02646.
    """
    first = sections[0][0]
    programs = dict.fromkeys(ds.attrs.get("program", "a program") for ds, _ in sections)
    return rendered(
        "report.html.j2",
        program=", ".join(programs),
        data=first.attrs.get("data", "unnamed data"),
        columns=COLUMNS,
        sections=[_section(ds, figures, i) for i, (ds, figures) in enumerate(sections)],
        overview=overview and (CAPTIONS["overview"], inlined(Path(overview)), _width(Path(overview))),
    )


def rendered(template: str, **values: Any) -> str:
    """Render a template of this folder, values escaped, with the shared colours.

    Arguments:
        template: the name of its file.
        values: all that it names but "palette".
    """
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    source = PALETTE.with_name(template).read_text(encoding="utf-8")
    return environment.from_string(source).render(palette=Markup(PALETTE.read_text(encoding="utf-8")), **values)


def inlined(path: Path) -> str:
    """A PNG file as a data URL; FileNotFoundError if there is none."""
    if not path.is_file():
        raise FileNotFoundError(f"no figure at {path}: write it first")
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")


def _section(ds: xr.Dataset, figures: Sequence[Path], index: int) -> dict[str, Any]:
    """What the template shows of one program and checkpoint."""
    cells = {row["estimator"]: row for row in rows(ds)}
    return {
        "title": title(ds),
        "anchor": f"section-{index + 1}",
        "facts": _facts(ds),
        "summary": summary(ds),
        "groups": [(goal, [cells[name] for name in names]) for goal, names in by_target(ds).items()],
        "verdicts": per_estimator(ds, "verdict"),
        "notes": [(name, note) for name, note in per_estimator(ds, "note").items() if note],
        "left_out": [line for line in ds.attrs.get("left_out", "").split("\n") if line],
        "details": [_details(ds.sel(estimator=name), name) for name in cells],
        "figures": [(path.stem, _caption(ds, path.stem), inlined(path), _width(path)) for path in map(Path, figures)],
        "empty": [(FIGURES[name], why) for name, why in figures_left_out(ds).items()],
        "blocks": _group_blocks(ds),
        "unusual": _unusual_z(ds),
        "alpha": ds.attrs.get("alpha", ALPHA),
        "measured": _measured(ds),
    }


def dots_across(png: Path) -> int:
    """The width of a PNG in dots, from its header.

    Arguments:
        png: the file, which exists.
    """
    with open(png, "rb") as file:
        return struct.unpack(">16xI", file.read(20))[0]


def _width(png: Path) -> int:
    """Of a figure on the page: it is drawn with 150 dots an inch, about 1.5 times a screen's."""
    return min(1000, round(dots_across(png) / 1.5))


def _caption(ds: xr.Dataset, stem: str) -> str:
    found = CAPTIONS.get(stem, stem)
    return f"{found} {combination_sentence(ds)}" if stem == "correlation" else found


def _details(one: xr.Dataset, name: str) -> dict[str, str]:
    """The figures of an estimator that the main table leaves out."""

    def share(variable: str) -> str:
        value = 100 * float(one[variable])
        return "-" if math.isnan(value) else f"{number(value, 2)} %"

    return {
        "estimator": name,
        "reference": str(one["reference"].item()),
        "replicates": f"{int(one['replicates'])}",
        **({"drawn": str(one["drawn"].item())} if "drawn" in one else {}),
        "T²": number(float(one["t2"])),
        "p": number(float(one["p_value"]), 2),
        **({"p of the norm": number(float(one["p_norm"]), 2)} if "p_norm" in one else {}),
        "bias": share("relative_bias"),
        "detectable bias": share("detectable_bias"),
        **({"in any direction": share("detectable_anywhere")} if "detectable_anywhere" in one else {}),
        "cosine [5 %, 95 %]": interval(*(float(one[v]) for v in ("cosine_mean", "cosine_q05", "cosine_q95"))),
        "variance between minibatches": number(float(one["variance_between"])),
        "variance × evaluations": number(float(one["work_evaluations"])),
        "R²": number(float(one["r2"]), 3) if "r2" in one else "-",
        "kurtosis": number(float(one["kurtosis"]), 2) if "kurtosis" in one else "-",
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


def _unusual_z(ds: xr.Dataset) -> float:
    """The |z| that some group of an unbiased estimator exceeds with probability alpha (Bonferroni)."""
    alpha = float(ds.attrs.get("alpha", ALPHA))
    tests = max(ds.sizes["group"], 1) * int(ds.attrs.get("projections", 1))
    return NormalDist().inv_cdf(1 - alpha / (2 * tests))


def _group_blocks(ds: xr.Dataset) -> list[dict[str, Any]]:
    """Tables of z and variance by parameter group, a few estimators each, to fit the page."""
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
    """The circumstances of the measurement, as label and value."""
    replicates = ds["replicates"].values  # (E,)
    low, high = int(replicates.min()), int(replicates.max())
    found = [(label, ds.attrs[key]) for key, label in MEASURED.items() if key in ds.attrs]
    found += [
        ("fixed minibatches", ds.sizes["chain"]),
        ("gradients per minibatch and estimator", low if low == high else f"{low} to {high}"),
        ("of which kept one by one", ds.sizes["draw"]),
    ]
    return [(label, f"{value:,.6g}" if isinstance(value, float) else str(value)) for label, value in found]
