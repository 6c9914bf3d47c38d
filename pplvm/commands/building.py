"""From words to objects: program and estimators as the command line names them, held against the data."""

import ast
import inspect
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

import torch
from pyro.infer import ELBO
from pyro.poutine import Trace
from torch import Tensor, nn

from pplvm.catalog import OBJECTIVES, PROGRAMS, find
from pplvm.commands.sizes import only_parameters_of
from pplvm.data.image_data import ImageData
from pplvm.data.spec import check_site, first_outside, refuse_row
from pplvm.objectives.objective import Loss, ObjectiveError
from pplvm.particles.contract import ProgramError, sample_sites
from pplvm.particles.pair import inspect_pair
from pplvm.training.random_state import seed_all

__all__ = [
    "build_loss",
    "build_objective",
    "build_program",
    "check_data",
    "run_once",
    "split_settings",
    "takes_particles",
    "usable_device",
]


def build_program(
    name: str, settings: list[str], data: ImageData, seed: int, weights: Mapping[str, Tensor] | None = None
) -> nn.Module:
    """A program by name or import path; what the data knows (data_size, data_mean) fills its arguments.

    Arguments:
        weights: that it is to take, if its settings come from a file: a program by name is not built larger.

    Raises:
        ValueError, LookupError: no such program, no program at all, or a setting that it does not take.
    """
    maker = find("program", PROGRAMS, name)
    program = maker
    if not isinstance(maker, nn.Module):
        if not callable(maker):
            raise ValueError(f"{name} is {type(maker).__name__}, no program: name a class or an nn.Module")
        if weights is not None and ":" not in name:
            with torch.device("meta"), only_parameters_of(weights):  # which costs neither memory nor time
                _call(maker, f"program {name}", split_settings(settings), _known(data))
        seed_all(seed)
        program = _call(maker, f"program {name}", split_settings(settings), _known(data))
    elif settings:
        raise ValueError(f"program {name} is an instance already, so --set has nothing to set")
    if not isinstance(program, nn.Module) or not all(
        callable(getattr(program, half, None)) for half in ("model", "guide")
    ):
        raise ValueError(f"{name} is no program: it must be an nn.Module with methods model(x) and guide(x)")
    return program


def build_loss(name: str, particles: int | None, program: nn.Module, data: ImageData) -> Loss:
    """An estimator, named as for `build_objective`, tied to a program.

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
    """An objective by `name` or `name@setting=value@...` or an import path.

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
    if not isinstance(maker, ELBO):
        if not callable(maker):
            raise ValueError(f"{word} is {type(maker).__name__}, no objective")
        objective = _call(maker, f"objective {word}", chosen, known)
    if not isinstance(objective, ELBO):
        raise ValueError(f"{word} is no objective: it must give a pyro.infer.ELBO")
    return objective


def takes_particles(name: str) -> bool:
    """Whether an estimator, named as for `build_loss`, has a number of particles to set."""
    maker = find("objective", OBJECTIVES, name.split("@")[0])
    return callable(maker) and "num_particles" in inspect.signature(maker).parameters and "num_particles=" not in name


def run_once(program: nn.Module, data: ImageData, x: Tensor) -> tuple[Trace, Trace | None, list[str]]:
    """As `inspect_pair` on a batch of the data.

    Raises:
        ValueError: torch or Pyro refuse the program on these data.
    """
    try:
        return inspect_pair(program.model, program.guide, (x,), {})
    except (RuntimeError, ProgramError) as error:
        raise ValueError(
            f"program {type(program).__name__} cannot run on data set {data.spec.name!r}, whose data have shape "
            f"{data.spec.shape}: {str(error).splitlines()[0]}{_unscaled(program, data, x)}"
        ) from error


def check_data(program: nn.Module, data: ImageData, x: Tensor) -> None:
    """Hold the program's observed sites against the data, before anything is trained.

    A site that observes the batch itself must hold every level of the data, or every datum; of one that observes what
    the program makes of the batch, the program's own check on its first batch must do.

    Raises:
        ValueError: values of the data fall outside a site's support, or sizes differ.
    """
    spec = data.spec
    model_trace, _, _ = run_once(program, data, x)
    for name, site in sample_sites(model_trace).items():
        if site["is_observed"] and _is_batch(site["value"], x):
            check_site(spec, name, _kind(site), site["fn"].support, site["value"].device)
            if spec.levels is None:
                _check_rows(program, data, x, name, site)


def _unscaled(program: nn.Module, data: ImageData, x: Tensor) -> str:
    """What to do where a program fails on values as they are read, and does not on the same ones in [-1, 1]."""
    low, high = data.extremes
    if data.spec.levels is not None or max(-low, high) <= 1:
        return ""
    try:
        inspect_pair(program.model, program.guide, (x / max(-low, high),), {})
    except (RuntimeError, ProgramError):
        return ""
    return f"; its values run from {low:g} to {high:g}: scale them, or, if they are grey images, give their --levels"


def _check_rows(program: nn.Module, data: ImageData, x: Tensor, name: str, site: Any) -> None:
    """Hold every datum against the support of a site that observes the batch x (B, *shape)."""
    B, value = len(x), site["value"]
    at_once = B * max(1, NUMBERS_AT_ONCE // x.numel())
    for start in range(0, len(data), at_once):
        count = min(at_once, len(data) - start)
        numbers = torch.arange(start, start + count + -count % B) % len(data)  # whole batches, the last one filled up
        rows = data.rows(numbers).to(x.device, value.dtype).reshape(-1, *value.shape)
        if (first := first_outside(site["fn"].support, rows)) is None:
            continue
        with_it = torch.cat([data.rows(numbers[first : first + 1]).to(x.device), x[1:]])
        met = sample_sites(inspect_pair(program.model, program.guide, (with_it,), {})[0])[name]
        fn, value = met["fn"], met["value"]
        if _is_batch(value, with_it) and first_outside(fn.support, value[None]) == 0:
            refuse_row(data.spec, name, _kind(met), fn.support, int(numbers[first]), value)
        return  # the program maps such values into the support, or the support is another for each datum


NUMBERS_AT_ONCE = 2**22
"""Values of the data held against a support at once."""


def _is_batch(value: Any, x: Tensor) -> bool:
    """Whether a site observes the batch as it is, flattened or of another dtype perhaps."""
    if not torch.is_tensor(value) or value.shape[:1] != x.shape[:1] or value.numel() != x.numel():
        return False
    return torch.equal(value.reshape(x.shape).to(x.dtype), x)


def _kind(site: Any) -> str:
    fn = site["fn"]
    while hasattr(fn, "base_dist"):
        fn = fn.base_dist
    return type(fn).__name__


def usable_device(name: str) -> torch.device:
    """The device that --device names.

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


def split_settings(settings: list[str]) -> dict[str, Any]:
    """`["a=1", "b=x", "c=1,2"]` as {"a": 1, "b": "x", "c": (1, 2)}.

    Raises:
        ValueError: a setting has no `=`.

    Example:
        >>> split_settings(["latent_sizes=20,10", "likelihood=gaussian"])
        {'latent_sizes': (20, 10), 'likelihood': 'gaussian'}
    """
    found = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise ValueError(f"setting {setting!r} must read name=value")
        try:
            found[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError, RecursionError, MemoryError):  # the last two of brackets without end
            found[name] = value
    return found


def _known(data: ImageData) -> dict[str, Any]:
    mean = data.mean().float()
    return {"data_size": len(mean), "data_mean": mean}


def _call(maker: Callable[..., Any], what: str, settings: dict[str, Any], known: dict[str, Any]) -> Any:
    """Call with the settings, all of which must be taken, and with what is known, where it is asked for."""
    takes = inspect.signature(maker).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in takes.values())
    for name, value in settings.items():
        if name not in takes and not takes_any:
            close = get_close_matches(name, list(takes), n=1)
            hint = f", did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"{what} takes no {name!r}{hint}; it takes {', '.join(takes) or 'nothing'}")
        default = takes[name].default if name in takes else None
        if name in takes and _takes_several(takes[name]) and not isinstance(value, tuple | list):
            settings[name] = (value,)
        elif isinstance(default, int | float) and not isinstance(value, int | float):
            raise ValueError(f"{what}: {name} must be a number, got {value!r}")
    given = {name: value for name, value in known.items() if name in takes} | settings
    missing = [
        name
        for name, p in takes.items()
        if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and name not in given
    ]
    if missing:
        raise ValueError(f"{what} needs {', '.join(missing)}: give it as {missing[0]}=VALUE")
    try:
        return maker(**given)
    except (TypeError, RuntimeError) as error:
        said = ", ".join(f"{name}={_typed(value)}" for name, value in settings.items()) or "no settings"
        raise ValueError(f"{what} cannot be made with {said}: {str(error).splitlines()[0]}") from error


def _takes_several(parameter: inspect.Parameter) -> bool:
    """Whether an argument takes a sequence, and not one number alone, by its annotation or else its default."""
    annotation = parameter.annotation
    if annotation is parameter.empty:
        return isinstance(parameter.default, tuple | list)
    name = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    return (
        name.split(".")[-1].partition("[")[0].lower() in ("sequence", "list", "tuple", "iterable") and "|" not in name
    )


def _typed(value: Any) -> str:
    """A setting's value as it is typed, which every shell takes as it stands: 200,200 and not (200, 200)."""
    return ",".join(map(_typed, value)) if isinstance(value, tuple | list) else str(value)
