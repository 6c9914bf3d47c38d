"""Builds programs, objectives and losses from their names, and checks them against the data.

A program's constructor gets what the data know where it takes it: data_size, data_mean, levels, num_classes,
data_examples (some data, flattened, from which pseudo-inputs and the like start), and data_shape (C, H, W), by which it
asks for data with a channel. An objective's gets data_size, data_mean and num_data.
"""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from pyro.infer import ELBO
from torch import Tensor, nn

from pplvm.catalog import OBJECTIVES, PROGRAMS, find
from pplvm.commands.building.parameter_limits import limit_parameters_to
from pplvm.commands.options.settings import call_with, split_settings
from pplvm.data.image_data import ImageData
from pplvm.objectives.objective import Loss, ObjectiveError
from pplvm.training.random_state import seed_all

__all__ = [
    "build_loss",
    "build_objective",
    "build_program",
    "data_for",
    "known_to",
    "takes_particles",
    "usable_device",
]

EMPTY = inspect.Parameter.empty

EXAMPLES = 500
"""As many as the components of a VampPrior (Tomczak and Welling, 2018, arXiv:1705.07120)."""


def build_program(
    name: str, settings: list[str], data: ImageData, seed: int, weights: Mapping[str, Tensor] | None = None
) -> nn.Module:
    """Build a program by name or import path; arguments that the data know (shape, mean, ...) are filled in.

    Arguments:
        weights: that it is to take, if its settings come from a file: a program by name is not built larger.

    Raises:
        ValueError, LookupError: no such program, no program at all, or a setting that it does not take.
    """
    maker = find("program", PROGRAMS, name)
    program = maker
    if not isinstance(maker, nn.Module):
        known = known_to(name, data)
        if not callable(maker):
            raise ValueError(f"{name} is {type(maker).__name__}, no program: name a class or an nn.Module")
        if weights is not None and ":" not in name:
            with torch.device("meta"), limit_parameters_to(weights):  # which costs neither memory nor time
                call_with(maker, f"program {name}", split_settings(settings), known)
        seed_all(seed)
        program = call_with(maker, f"program {name}", split_settings(settings), known)
    elif settings:
        raise ValueError(f"program {name} is an instance already, so --set has nothing to set")
    if not isinstance(program, nn.Module) or not all(
        callable(getattr(program, role, None)) for role in ("model", "guide")
    ):
        raise ValueError(f"{name} is no program: it must be an nn.Module with methods model(x) and guide(x)")
    return program


def data_for(name: str, data: ImageData) -> ImageData:
    """The data in the form that a program asks for: with a channel, (C, H, W), if its constructor takes `data_shape`.

    Arguments:
        name: of the program, as for `build_program`.

    Raises:
        LookupError: there is no such program. ValueError: it needs the shape of images, and the data are none.
    """
    asked = _arguments(find("program", PROGRAMS, name)).get("data_shape")
    is_optional = asked is not None and asked.default is not EMPTY
    if asked is None or (is_optional and len(data.spec.shape) not in (2, 3)):
        return data
    try:
        return data.with_channel()
    except ValueError as error:
        raise ValueError(f"program {name} needs data_shape, (C, H, W) of an image: {error}") from error


def known_to(name: str, data: ImageData) -> dict[str, Any]:
    """The arguments of a program's constructor that the data know, by name.

    A number of classes that has a default is left at it where no labels reach the program.
    """
    spec = data_for(name, data).spec
    of_images = {"data_shape": spec.shape if len(spec.shape) == 3 else None, "levels": spec.levels}
    known = _known(data_for(name, data)) | of_images | {"num_classes": spec.num_classes}
    takes = _arguments(find("program", PROGRAMS, name))
    if "data_examples" in takes:
        known["data_examples"] = _examples(data)
    if "labels" not in spec.conditions and "num_classes" in takes and takes["num_classes"].default is not EMPTY:
        del known["num_classes"]
    return {word: value for word, value in known.items() if word in takes and value is not None}


def _arguments(maker: Any) -> Mapping[str, inspect.Parameter]:
    """The parameters of a program's constructor, or of the function that makes it."""
    called = type(maker) if isinstance(maker, nn.Module) else maker
    return inspect.signature(called).parameters if callable(called) else {}


def build_loss(name: str, particles: int | None, program: nn.Module, data: ImageData) -> Loss:
    """Build the loss of an objective, named as for `build_objective`, and a program.

    Raises:
        ValueError, LookupError: no such objective, or a setting that it does not take.
    """
    known = _known(data) | ({} if particles is None else {"num_particles": particles})
    objective = build_objective(name, known)
    try:
        return Loss(objective, program)
    except ObjectiveError as error:
        raise ValueError(f"objective {name.split('@')[0]}: {error}") from error


def build_objective(name: str, known: dict[str, Any]) -> ELBO:
    """Build an objective from `name`, `name@setting=value@...` or an import path.

    Arguments:
        known: what fills its arguments where they are not set.

    Raises:
        ValueError, LookupError: no such objective, or a setting that it does not take.
    """
    word, *settings = name.split("@")
    maker = find("objective", OBJECTIVES, word)
    chosen = split_settings(settings)
    if isinstance(count := chosen.get("num_particles", 1), int) and count < 1:
        raise ValueError(f"objective {word}: num_particles must be at least 1, got {count}")
    objective = maker
    if isinstance(maker, ELBO) and settings:
        raise ValueError(
            f"objective {word} is an instance already, so @{'@'.join(settings)} has nothing to set: name a function or "
            "class that takes it"
        )
    if not isinstance(maker, ELBO):
        if not callable(maker):
            raise ValueError(f"{word} is {type(maker).__name__}, no objective")
        objective = call_with(maker, f"objective {word}", chosen, known)
    if not isinstance(objective, ELBO):
        raise ValueError(f"{word} is no objective: it must give a pyro.infer.ELBO")
    return objective


def takes_particles(name: str) -> bool:
    """Whether an objective, named as for `build_loss`, has a number of particles."""
    maker = find("objective", OBJECTIVES, name.split("@")[0])
    return callable(maker) and "num_particles" in inspect.signature(maker).parameters and "num_particles=" not in name


def usable_device(name: str) -> torch.device:
    """The device that --device names, checked to be available.

    Raises:
        ValueError: there is no such device here.
    """
    try:
        found = torch.device(name)
        if found.type == "cuda" and (found.index or 0) >= (there := torch.cuda.device_count()):
            raise ValueError(f"--device {name} cannot be used: torch finds {there or 'no'} CUDA devices; use cpu")
        return found if found.type == "cuda" else torch.zeros((), device=found).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"--device {name} cannot be used: {str(error).splitlines()[0]}") from error


def _known(data: ImageData) -> dict[str, Any]:
    mean = data.mean().float()
    return {"data_size": len(mean), "data_mean": mean, "num_data": len(data)}


def _examples(data: ImageData) -> Tensor:
    """At most `EXAMPLES` data, spread evenly over the split, flattened: (N, D)."""
    count = min(EXAMPLES, len(data))
    return data.rows(torch.arange(count) * len(data) // count).flatten(1).float()
