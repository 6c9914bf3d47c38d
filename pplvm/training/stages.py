"""Training in stages: initial weights from an earlier run, and parts that are trained while the rest is frozen."""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from pplvm.training.checkpoint_format import MANIFEST
from pplvm.training.checkpoints import Checkpoint, read_checkpoint, read_latest

__all__ = ["Initialized", "checkpoint_of", "initialize", "train_only"]


@dataclass(frozen=True)
class Initialized:
    """Which weights of a program were initialized from a run, and which were not, by name.

    Arguments:
        taken: have the given values now, buffers among them.
        new: are of the program alone, and stay what they were.
        unused: were given, and the program has none of the name.
    """

    taken: tuple[str, ...]
    new: tuple[str, ...]
    unused: tuple[str, ...]

    def __str__(self) -> str:
        count = len(self.taken)
        words = [f"{count} weight{'s' * (count > 1)} taken", f"new: {_few(self.new)}" if self.new else "none is new"]
        return "; ".join([*words, f"left aside: {_few(self.unused)}"] if self.unused else words)


def initialize(program: nn.Module, source: str | Path | Mapping[str, Tensor]) -> Initialized:
    """Load the weights and buffers of equal names of an earlier run into a program; others stay.

    A program that makes parameters on its first batch must have run once.

    Arguments:
        program: of any class.
        source: a run directory, for its latest checkpoint; a checkpoint's folder, such as RUN/checkpoints/best; or
            tensors by name, as `state_dict` gives them.

    Raises:
        FileNotFoundError: no run is there. ValueError: its checkpoint is damaged, or none of its weights has a name of
            the program's, or one of them another shape, or two that differ are one parameter of it.

    Example:
        >>> import torch
        >>> first, second = nn.Linear(2, 1), nn.Sequential()
        >>> second.weight, second.shift = nn.Parameter(torch.zeros(1, 2)), nn.Parameter(torch.zeros(1))
        >>> print(initialize(second, first.state_dict()))
        1 weight taken; new: shift; left aside: bias
        >>> torch.equal(second.weight, first.weight)
        True
    """
    where = "the weights" if isinstance(source, Mapping) else str(source)
    given = source if isinstance(source, Mapping) else checkpoint_of(source).weights
    own = {name: value for name, value in program.state_dict().items() if isinstance(value, Tensor)}
    taken = {name: given[name] for name in own if name in given}
    kind = type(program).__name__
    if not taken:
        raise ValueError(
            f"{where} and {kind} have no weight of an equal name: there it is {_few(tuple(given))}, here "
            f"{_few(tuple(own))}; give the same parts the same names"
        )
    for same in _shared_names(program):
        values = [(name, taken[name]) for name in same if name in taken]
        if differ := [name for name, value in values if not torch.equal(value, values[0][1])]:
            raise ValueError(
                f"{values[0][0]!r} and {differ[0]!r} are one parameter of {kind}, and two that differ in {where}: "
                "leave one of them out, or build the program without sharing it"
            )
    for name, value in taken.items():
        if not is_lazy(own[name]) and own[name].shape != value.shape:
            raise ValueError(
                f"{name!r} has shape {tuple(value.shape)} in {where} and {tuple(own[name].shape)} in {kind}: build it "
                "with the sizes of that run, or give it another name"
            )
    program.load_state_dict(taken, strict=False)
    loaded = {name for same in _shared_names(program) if not taken.keys().isdisjoint(same) for name in same}
    return Initialized(
        taken=tuple(name for name in own if name in loaded),
        new=tuple(name for name in own if name not in loaded),
        unused=tuple(name for name in given if name not in own),
    )


def _shared_names(program: nn.Module) -> list[list[str]]:
    """The names of each weight and buffer, of which one that modules share has several."""
    names: dict[int, list[str]] = {}
    for name, value in program.state_dict(keep_vars=True).items():
        names.setdefault(id(value), []).append(name)
    return list(names.values())


def checkpoint_of(path: str | Path) -> Checkpoint:
    """The latest checkpoint of a run directory, or the checkpoint whose folder is named.

    Raises:
        FileNotFoundError: no run is there. ValueError: it is damaged.
    """
    found = None
    if Path(path, "checkpoints").is_dir():
        found = read_latest(Path(path))
    elif Path(path, MANIFEST).is_file():
        found = read_checkpoint(Path(path))
    if found is None:
        raise FileNotFoundError(
            f"there is no checkpoint in {path}: name a directory that pplvm fit wrote, or one of its checkpoints"
        )
    return found


def train_only(program: nn.Module, *parts: str) -> None:
    """Train named parts of a program, and freeze all others.

    What is frozen has no gradient and stays in evaluation mode whatever calls `train()`: dropout is off, and batch
    normalization uses its running statistics and keeps them. Copies of the program, running averages among them, are
    frozen alike. A second call takes back what the first one has frozen, and without parts it does only that.
    Make optimizers afterwards.

    Arguments:
        program: of any class.
        parts: names of its modules ("decoder", "flows.0") or parameters ("scale"), as `named_modules` has them.

    Raises:
        LookupError: the program has no such part. ValueError: a part has nothing that learns.

    Example:
        >>> program = nn.ModuleDict({"encoder": nn.BatchNorm1d(3), "prior": nn.Linear(3, 3)})
        >>> train_only(program, "prior")
        >>> [name for name, p in program.named_parameters() if p.requires_grad]
        ['prior.weight', 'prior.bias']
        >>> program.train()["encoder"].training, program["prior"].training
        (False, True)
    """
    modules = dict(program.named_modules())
    parameters = dict(program.named_parameters(remove_duplicate=False))
    frozen_before = {id(p) for module in modules.values() for p in _frozen_by(module)}
    names = tuple(sorted(filter(None, [*modules, *parameters]), key=lambda name: name.count(".")))  # the largest first
    learning: set[int] = set()
    training: set[nn.Module] = set()
    for part in parts:
        if not part or part not in modules | parameters:
            raise LookupError(_no_part(program, part, names))
        own = [parameters[part]] if part in parameters else modules[part].parameters()
        learns = {id(p) for p in own if p.requires_grad or id(p) in frozen_before}
        if not learns:
            raise ValueError(
                f"part {part!r} of {type(program).__name__} has no parameter that learns, so that nothing is left to "
                f"train: name another of {_few(names)}"
            )
        learning |= learns
        training |= set() if part in parameters else set(modules[part].modules())
    for module in modules.values():
        _release(module)
    for module in modules.values() if parts else ():
        if module not in training:
            _freeze(module, learning)


def _no_part(program: nn.Module, part: str, names: tuple[str, ...]) -> str:
    close = get_close_matches(part, names, n=1)
    hint = f", did you mean {close[0]!r}?" if close else ""
    return f"{type(program).__name__} has no part {part!r}{hint}: it has {_few(names)}"


class _Frozen:
    """The `train` method of a frozen module, which keeps it in evaluation mode but not its trained parts.

    Arguments:
        module: whose `train` it is; a copy of the module has a copy of it.
        names: of the module's own parameters that it has frozen.
    """

    def __init__(self, module: nn.Module, names: tuple[str, ...]) -> None:
        self.module, self.names = module, names

    def __call__(self, mode: bool = True) -> nn.Module:
        type(self.module).train(self.module, mode)
        self.module.training = False
        return self.module


def _freeze(module: nn.Module, learning: set[int]) -> None:
    """Freeze a module's own parameters except the trained ones, and keep it in evaluation mode."""
    own = {name: p for name, p in module._parameters.items() if p is not None and p.requires_grad}
    names = tuple(name for name, p in own.items() if id(p) not in learning)
    for name in names:
        own[name].requires_grad_(False)
    vars(module)["train"] = _Frozen(module, names)
    module.training = False


def _release(module: nn.Module) -> None:
    for p in _frozen_by(module):
        p.requires_grad_(True)
    if isinstance(vars(module).get("train"), _Frozen):
        del vars(module)["train"]


def _frozen_by(module: nn.Module) -> list[nn.Parameter]:
    """The module's own parameters that `train_only` froze."""
    train = vars(module).get("train")
    found = [module._parameters[name] for name in train.names] if isinstance(train, _Frozen) else []
    return [p for p in found if p is not None]


def _few(names: tuple[str, ...]) -> str:
    """The first names, and the number of others.

    Example:
        >>> _few(("a", "b")), _few(tuple("abcdef"))
        ('a, b', 'a, b, c, d and 2 more')
    """
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return f"{', '.join(names[:4]) or 'none'}{more}"
