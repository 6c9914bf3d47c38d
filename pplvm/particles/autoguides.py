"""Pyro's automatic guides hold parameters for each row of their first batch, and are refused on other batches."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from pyro.infer.autoguide import AutoGuide
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import get_proxy_mode

from pplvm.particles.contract import ProgramError, latents

__all__ = ["automatic_guides", "same_rows"]


def automatic_guides(modules: Iterable[nn.Module]) -> list[AutoGuide]:
    """The automatic guides among modules, initialized or not."""
    return [each for module in modules for each in module.modules() if isinstance(each, AutoGuide)]


@contextmanager
def same_rows(guides: Iterable[AutoGuide]) -> Iterator[None]:
    """Within this context, refuse a call with other rows than the guide was initialized on.

    Raises:
        ProgramError: a guide with latents of each datum is called with another batch than its first.
    """
    hooks = [guide.register_forward_pre_hook(_require_same_rows) for guide in guides]
    try:
        yield
    except ProgramError as error:  # to which Pyro appends the shapes of its trace
        raise ProgramError(str(error).partition("\n")[0]) from error
    finally:
        for hook in hooks:
            hook.remove()


def _require_same_rows(guide: Any, args: tuple[Any, ...]) -> None:
    if (size := _rows_of(guide)) is None:
        return
    if get_proxy_mode() is not None:
        raise RuntimeError(
            f"{type(guide).__name__} keeps parameters for each row, so its batch is looked at in every run"
        )
    first = guide.prototype_trace.nodes["_INPUT"]["args"]
    for before, now in zip(first, args, strict=False):
        if before is now or not (isinstance(before, Tensor) and isinstance(now, Tensor) and now.dim()):
            continue
        if before.shape != now.shape or not torch.equal(before, now):
            rows = f"{len(now)} rows" if before.shape[:1] != now.shape[:1] else "others"
            raise ProgramError(
                f"the guide's {type(guide).__name__} keeps parameters for each of the {size} rows of its first batch, "
                f"and this batch holds {rows}: give all data as one batch, in one order, at every step, or write a "
                "guide that computes them from x"
            )


def _rows_of(guide: AutoGuide) -> int | None:
    """The batch size that a guide was initialized on; None if it was not, or has no latent per datum."""
    if guide.prototype_trace is None:
        return None
    for site in latents(guide.prototype_trace).values():
        for frame in site["cond_indep_stack"]:
            if frame.dim == -1 and frame.full_size in (None, frame.size):
                return frame.size
    return None
