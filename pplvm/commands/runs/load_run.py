"""`pplvm.load`: loads a run directory as Python objects: program, objective and data."""

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pyro.infer import ELBO
from torch import nn

from pplvm.commands.building.builders import usable_device
from pplvm.commands.building.data import build_data
from pplvm.commands.building.training_builders import build_training_loss
from pplvm.commands.runs.config import settings_of
from pplvm.commands.runs.trained_program import TrainedProgram, load_trained
from pplvm.data.image_data import ImageData
from pplvm.data.spec import DataSpec
from pplvm.objectives.objective import Loss

__all__ = ["LoadedRun", "load"]


@dataclass(frozen=True, repr=False)
class LoadedRun:
    """A run loaded by `load`: its program, objective, data and settings.

    Arguments:
        directory: of the run.
        checkpoint: the folder that the weights are from.
        step: at which they were saved.
        program: with these weights, in evaluation mode.
        loss: of objective and program, `loss(x)` is minus the bound in nats per datum; in evaluation mode.
        spec: what its data promise: name, shape, levels, binarization.
        settings: of the training, by the names of the options of `pplvm fit`.
    """

    directory: Path
    checkpoint: Path
    step: int
    program: nn.Module
    loss: Loss
    spec: DataSpec
    settings: dict[str, Any]

    @property
    def objective(self) -> ELBO:
        """The objective of the run, with the weights of learned baselines and control variates."""
        return self.loss.objective

    def data(self, split: str = "test") -> ImageData:
        """The run's data, binarized as in training.

        Arguments:
            split: "train", "valid" or "test".

        Raises:
            ValueError, LookupError, FileNotFoundError: there is no such split, or the data have been moved.
        """
        return build_data(argparse.Namespace(**self.settings | {"split": split}))

    def __repr__(self) -> str:
        settings, spec = self.settings, self.spec
        program = " ".join([settings["program"], *settings["set"]])
        trained = f"{type(self.objective).__name__}, step {self.step}"
        data = f"{spec.name} {spec.shape}, {spec.binarization}"
        return f"LoadedRun({self.directory}: {program} under {trained}; data {data})"

    def _repr_html_(self) -> str:
        from pplvm.plots.notebook_html import html_or_text, run_html, spec_facts

        settings = self.settings

        def html() -> str:
            return run_html(
                program=" ".join([settings["program"], *settings["set"]]),
                objective=type(self.objective).__name__,
                data=spec_facts(self.spec),
                settings=settings,
                step=self.step,
                directory=str(self.directory),
            )

        return html_or_text(html, self.__repr__)


def load(
    run: str | Path,
    *,
    weights: str = "latest",
    device: str | torch.device = "cpu",
    trust: str | Sequence[str] = (),
    data_root: str | Path | None = None,
) -> LoadedRun:
    """Load a run of `pplvm fit`: its program with the weights, its objective, its data.

    Arguments:
        run: the run directory.
        weights: "latest", or "best" by validation loss.
        device: for the weights.
        trust: modules of one's own whose code the run names; not needed where this user made or trusted the run
            here before.
        data_root: where the data lie, if elsewhere than in training.

    Raises:
        FileNotFoundError: there is no run, checkpoint or file of data. ValueError: a checkpoint is damaged or fits no
            such program, or the run names code that nobody trusts. LookupError: there is no such module.

    Example:
        >>> run = load("runs/mine")  # doctest: +SKIP
        >>> batch = run.data("test").batch(torch.arange(100))  # (x,), or (x, y) with conditions  # doctest: +SKIP
        >>> -run.loss(*batch)  # the bound, in nats  # doctest: +SKIP
    """
    if weights not in ("latest", "best"):
        raise ValueError(f"weights must be 'latest' or 'best', got {weights!r}")
    root = None if data_root is None else str(data_root)
    trusted = [trust] if isinstance(trust, str) else list(trust)
    wanted = argparse.Namespace(weights=weights, split="train", data_root=root, trust=trusted)
    try:
        found = load_trained(str(run), wanted, usable_device(str(device)))
    except ValueError as error:
        raise ValueError(re.sub(r"add --trust (\S+)", r'pass trust="\1"', str(error))) from error
    return LoadedRun(
        directory=found.directory,
        checkpoint=found.checkpoint.path,
        step=found.checkpoint.step,
        program=found.program,
        loss=_loss(found),
        spec=found.data.spec,
        settings=settings_of(found.settings),
    )


def _loss(found: TrainedProgram) -> Loss:
    """The loss as it was trained, with the weights of its control variate.

    Raises:
        ValueError: the objective cannot be built, or the checkpoint does not fit it.
    """
    loss = build_training_loss(found.settings, found.program, found.data, found.rows(found.settings.batch_size))
    saved = found.checkpoint.state.get("parts", {}).get("stepper", {}).get("loss", {})
    learned = {name.removeprefix("control."): value for name, value in saved.items() if name.startswith("control.")}
    if loss.control is not None and learned:
        try:
            loss.control.load_state_dict(learned)
        except RuntimeError as error:
            raise ValueError(f"{found.checkpoint.path} does not fit {found.settings.objective}: {error}") from error
    return loss.eval()
