"""The summary that `pplvm fit` prints at its end: losses, best step, time and the next commands."""

import argparse
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["FitOutcome", "fit_summary"]

VALIDATION = "validation/"


@dataclass(frozen=True)
class FitOutcome:
    """The step, time and reason with which a training run ended.

    Arguments:
        step: the last one.
        seconds, images_per_second: of the training since it was started or resumed.
        is_stopped: by a signal.
        is_over: by early stopping.
    """

    step: int
    seconds: float
    images_per_second: int
    is_stopped: bool
    is_over: bool


def fit_summary(
    found: FitOutcome,
    records: Iterable[Mapping[str, float | None]],
    value: str,
    settings: argparse.Namespace,
    run: Path,
) -> str:
    """Format the summary: training and validation, best step, time, and the commands to go on with.

    Arguments:
        records: of the run, as `metrics.jsonl` has them.
        value: what is trained, "bound" or "objective", as the records call it.
        settings: of the run.
        run: its directory.

    Example:
        >>> records = [{"step": 50, "bound": -20.1}, {"step": 50, "validation/bound": -21.0}]
        >>> settings = argparse.Namespace(program="vae", steps=50, early_stop=None)
        >>> print(fit_summary(FitOutcome(50, 1.5, 3333, False, False), records, "bound", settings, Path("runs/mine")))
        training bound    -20.10 nats, mean of steps 1 to 50
        validation bound  -21.00 nats at step 50
        best validation   -21.00 nats at step 50
        time              1.5 s, 3,333 images/s
        next              pplvm evaluate runs/mine --weights best
                          pplvm fit --resume runs/mine --steps 100
    """
    records = list(records)
    rows = _figures(records, value)
    rows.append(("time", f"{_time(found.seconds)}, {found.images_per_second:,} images/s"))
    has_best = any(name.startswith(VALIDATION) for record in records for name in record)
    commands = _commands(found, settings, run, has_best)
    rows += [("next" if i == 0 else "", command) for i, command in enumerate(commands)]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {words}" for name, words in rows)


def _figures(records: Sequence[Mapping[str, float | None]], value: str) -> list[tuple[str, str]]:
    """The last recorded values and the best validation, aligned at their decimal points."""
    trained, judged = _of(value, records), _of(VALIDATION + value, records)
    rows = []
    if trained:
        step, last = trained[-1]
        since = trained[-2][0] + 1 if len(trained) > 1 else 1
        over = f", mean of steps {since:,} to {step:,}" if since < step else f" at step {step:,}"
        rows.append((f"training {value}", last, over))
    if judged:
        step, last = judged[-1]
        rows.append((f"validation {value}", last, f" at step {step:,}"))
        step, best = max(judged, key=lambda each: (each[1], -each[0]))
        rows.append(("best validation", best, f" at step {step:,}"))
    width = max((len(f"{number:.2f}") for _, number, _ in rows), default=0)
    return [(name, f"{number:{width}.2f} nats{words}") for name, number, words in rows]


def _of(name: str, records: Sequence[Mapping[str, float | None]]) -> list[tuple[int, float]]:
    return [(int(record["step"] or 0), number) for record in records if (number := record.get(name)) is not None]


def _time(seconds: float) -> str:
    """A duration in seconds, minutes or hours, whichever reads best.

    Example:
        >>> _time(9.96), _time(61), _time(7290)
        ('10.0 s', '1 min 1 s', '2 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _commands(found: FitOutcome, settings: argparse.Namespace, run: Path, has_best: bool) -> list[str]:
    resume = f"pplvm fit --resume {shlex.quote(str(run))}"
    if found.is_over and settings.early_stop is not None:
        resume += f" --early-stop {2 * settings.early_stop}"
    if found.step >= settings.steps:
        resume += f" --steps {2 * settings.steps}"
    judge = f"pplvm evaluate {shlex.quote(str(run))}{' --weights best' if has_best else ''}"
    if (run / "evaluation-test").exists():  # where `pplvm evaluate` writes, from an earlier step
        judge += " --overwrite"
    return [resume, judge] if found.is_stopped else [judge, resume]
