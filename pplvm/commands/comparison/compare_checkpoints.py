"""The checkpoints at which `pplvm compare` measures gradients: at given training steps or from files."""

import argparse
import itertools
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from pplvm.batch import Batch, as_tuple
from pplvm.commands.building.builders import build_loss
from pplvm.commands.building.default_objective import objectives_for, penalized
from pplvm.commands.comparison.compare_runs import read_from_run, run_around
from pplvm.commands.comparison.synchronized_rounds import Rounds
from pplvm.data.epochs import Epochs
from pplvm.data.image_data import ImageData
from pplvm.graphs.compiled import compiled
from pplvm.objectives.objective import Loss, ObjectiveError
from pplvm.training.run import Run
from pplvm.training.stepper import Stepper

__all__ = [
    "checkpoint_name",
    "checkpoint_steps",
    "each_checkpoint",
    "load_checkpoint",
    "trainer",
]

DEFAULT_STEPS = 500


def checkpoint_steps(arguments: argparse.Namespace) -> list[int]:
    """The steps of --steps in ascending order; 500 by default, none where checkpoint files are named.

    Raises:
        ValueError: --steps is no list of numbers of at least 0.
    """
    if arguments.steps is None:
        return [] if arguments.checkpoint else [DEFAULT_STEPS]
    try:
        found = sorted({int(word) for word in arguments.steps.split(",")})
        if found[0] < 0:
            raise ValueError
    except ValueError:
        raise ValueError(
            f"--steps must read 500, or 0,500 to stop more than once, with numbers of at least 0, got "
            f"{arguments.steps!r}"
        ) from None
    return found


def load_checkpoint(path: str) -> dict[str, Tensor]:
    """Read the tensors of a run, of a checkpoint folder or of a file of `torch.save(program.state_dict(), path)`.

    Raises:
        FileNotFoundError: there is no such file. ValueError: it holds something else.
    """
    if (run := run_around(path)) is not None:
        return read_from_run(path, run).weights
    if not Path(path).is_file():
        raise FileNotFoundError(f"--checkpoint {path}: there is no such file")
    try:
        with warnings.catch_warnings(action="ignore"):  # of pickles that others wrote, which are refused anyway
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a parser makes of bytes that someone else may have written
        raise ValueError(f"--checkpoint {path} {SAVED_BY}: torch cannot load it as plain tensors") from error
    if not isinstance(state, dict) or not state or not all(torch.is_tensor(value) for value in state.values()):
        raise ValueError(f"--checkpoint {path} {SAVED_BY}: it holds {type(state).__name__}, not tensors by name")
    return state


SAVED_BY = "is no file that torch.save(program.state_dict(), FILE) wrote"


def checkpoint_name(stop: int) -> str:
    """The name of a program's checkpoint after a number of training steps."""
    return f"{stop} steps" if stop else "fresh"


def each_checkpoint(
    arguments: argparse.Namespace,
    trained: Loss,
    data: ImageData,
    batch: Batch,
    files: dict[str, dict[str, Tensor]],
    rounds: Rounds,
) -> Iterator[tuple[str, int | None]]:
    """Bring the program to each checkpoint in turn; yields its name and its step, None for a file.

    One training run passes through all its stops: what is done at a stop leaves no trace in it. Of several processes
    each trains by itself, from the same seed.
    """
    torch.manual_seed(arguments.seed)
    optimizer = torch.optim.Adam(trained.parameters(), lr=arguments.learning_rate, fused=True)
    x = as_tuple(batch)[0]
    planned = compiled(trained, steps=max(checkpoint_steps(arguments), default=0))  # a few steps are not worth a graph
    run = Run(Stepper(planned, optimizer), Epochs(data, len(x), seed=arguments.seed, device=x.device))
    for stop in checkpoint_steps(arguments):
        first = run.step
        steps = (run.step - first for _ in itertools.islice(run, stop - first))
        for _ in rounds.shown("training", steps, stop - first):
            pass
        states = torch.get_rng_state(), torch.cuda.get_rng_state_all() if x.is_cuda else []
        yield checkpoint_name(stop), stop
        torch.set_rng_state(states[0])
        torch.cuda.set_rng_state_all(states[1])
    for name, state in files.items():
        trained.program.load_state_dict(state)
        yield name, None


def trainer(arguments: argparse.Namespace, program: nn.Module, data: ImageData, batch: Batch) -> Loss:
    """Build the objective named by --objective with the program's penalties.

    By default it is the program's own, or the pathwise elbo where it is legal, else leave-one-out.

    Raises:
        ValueError: it is not legal for the program.
    """
    names = objectives_for(program, arguments.objective)
    for name in names:
        K = arguments.particles if arguments.objective else max(arguments.particles, 2)  # which rloo cannot do without
        plain = build_loss(name, K if name == "rloo" else None, program, data)
        loss = Loss(penalized(plain.objective, program), program).to(as_tuple(batch)[0].device)
        try:
            loss(*as_tuple(batch))
            return loss
        except Exception as error:
            if name != names[-1]:
                continue
            if isinstance(error, ObjectiveError):
                raise ValueError(f"objective {name}: {error}") from error
            raise
    raise AssertionError("unreachable: the last name returns or raises")
