"""Whether weights fit a program, and their names without the prefixes of wrappers."""

from torch import Tensor, nn

__all__ = ["mismatch", "without_wrapper_prefixes"]


def mismatch(state: dict[str, Tensor], program: nn.Module) -> str | None:
    """Why a state dict does not fit a program; None if it does."""
    own = program.state_dict()
    longer = {name: next((each for each in state if each.endswith(f".{name}")), None) for name in own.keys() - state}
    for name, value in own.items():
        if longer.get(name, "") is None:
            return f"it lacks {name!r}"
        if name in state and state[name].shape != value.shape:
            return f"{name!r} has shape {tuple(state[name].shape)} there and {tuple(value.shape)} in the program"
    if name := next((name for name in own if name in longer), None):
        return f"it has {longer[name]!r} for {name!r}, and other names as they are: give all the program's own"
    unknown = [name for name in state if name not in own]
    return f"the program has no {unknown[0]!r}" if unknown else None


def without_wrapper_prefixes(state: dict[str, Tensor], program: nn.Module) -> dict[str, Tensor]:
    """A state dict without the prefixes that wrappers (DataParallel, Loss) put before the program's names.

    Example:
        >>> import torch
        >>> list(without_wrapper_prefixes({"module._orig_mod.weight": torch.ones(1, 1)}, nn.Linear(1, 1, bias=False)))
        ['weight']
    """
    own, found = program.state_dict().keys(), state
    while own - found.keys():
        names = {name: name.replace("_orig_mod.", "") for name in found}  # torch.compile of the whole or of a part
        prefix = next((each for each in WRAPPERS if any(name.startswith(each) for name in names.values())), "")
        inner = {short.removeprefix(prefix): found[name] for name, short in names.items() if short.startswith(prefix)}
        if inner.keys() == found.keys():
            return state
        found = inner
    return found


WRAPPERS = ("module.", "loss.", "program.")
"""What data parallelism and averages, `Compiled` and `Loss` put before the names of what they hold."""
