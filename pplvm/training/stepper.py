"""One training step: loss, gradient, check for non-finite numbers, clipping, optimizer step."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.parameter import is_lazy
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel

from pplvm.batch import Batch
from pplvm.distributed.collectives import all_gather_shares, any_rank
from pplvm.distributed.ranks import size
from pplvm.graphs.compiled import Compiled
from pplvm.training.batch_arguments import arguments_of, number_refused
from pplvm.training.usable_optimizers import parameters_of, require_first_order, scheduler_list

__all__ = ["NotFinite", "Optimizers", "Step", "Stepper", "unwrapped"]

Optimizers = Optimizer | Mapping[str, Optimizer]
"""One optimizer, or one for each part of the loss, by name: {"model": Adam(...), "guide": Adam(...)}."""


class NotFinite(FloatingPointError):
    """Loss, gradient or parameters of a step are not finite on some rank; no rank has taken the step."""


@dataclass(frozen=True)
class Step:
    """The results of a step, detached and still on their device."""

    loss: Tensor  # ()
    gradient_norm: Tensor  # (), before clipping


class Stepper:
    """Takes training steps: loss, gradient, clipping, optimizers, schedulers, averages.

    Modules may change between steps. One that has a method `after_step(all_rows)` has it called once after each step,
    when the optimizers have moved and before the running average is updated: there a codebook takes up the counts of
    the batch, or gives unused codes another place. `all_rows(tensor)` is the tensor's rows on all ranks, rank after
    rank, (R n, ...) from (n, ...), alike on every rank; with one process it is the tensor. All ranks make the same
    calls of it, and change their modules alike: by what it gives, buffers that `parallel` averages, and equal seeds.
    A training loop without this class calls it itself: `for module in loss.modules(): module.after_step(lambda x: x)`
    where there is one.

    Arguments:
        loss: a module that maps a batch to a scalar, `compiled` or not, wrapped for data parallelism or not.
        optimizers: of the loss's parameters.
        schedulers: of the optimizers' learning rates, one step a step.
        clip: the largest norm of the whole gradient; no limit if None.
        averaged: a running average of the loss, as `torch.optim.swa_utils` makes it.

    Raises:
        TypeError: an optimizer or a scheduler is not one of torch's, or schedulers is no list of them.
        ValueError: clip is not positive; two optimizers move the same parameter; an optimizer or a scheduler needs the
            loss to take a step.
    """

    def __init__(
        self,
        loss: nn.Module,
        optimizers: Optimizers,
        schedulers: Iterable[LRScheduler] = (),
        clip: float | None = None,
        averaged: AveragedModel | None = None,
    ) -> None:
        if clip is not None and not clip > 0:
            raise ValueError(f"clip must be positive, or None for no limit, got {clip}")
        self.plain, self.compiled = unwrapped(loss)
        self.loss: Any = loss if callable(getattr(loss, "backward", None)) else Compiled(loss, "off")
        self.optimizers = dict(optimizers) if isinstance(optimizers, Mapping) else {"all": optimizers}
        self.clip, self.averaged = clip, averaged
        for name, each in self.optimizers.items():
            require_first_order(name, each)
        self.schedulers = scheduler_list(schedulers)
        self._has_moved = False
        self._last: Step | None = None  # the last one that moved
        self._parameters = {name: parameters_of(each) for name, each in self.optimizers.items()}
        moved = [id(p) for parameters in self._parameters.values() for p in parameters]
        if len(moved) > len(set(moved)):
            raise ValueError(f"the optimizers {', '.join(self.optimizers)} share parameters: give each to one of them")
        self._known: set[int] | None = {id(p) for p in self.plain.parameters()} | set(moved)

    def __call__(self, batch: Batch, only: Iterable[str] | None = None) -> Step:
        """One step on a batch.

        Arguments:
            batch: data x (B, ...), or a tuple (x, y, ...) of them and their conditions.
            only: names of the optimizers that move; all if None.

        Raises:
            TypeError: a part of the batch is no tensor, or the loss takes fewer of them, or more.
            ValueError: parameters came with the first batch, after the optimizers, or these have none of the loss's.
            NotFinite: the loss or its gradient is not finite, on this process or another; nothing has moved.
        """
        step = self.gradient(batch, only)
        for name in self.optimizers if only is None else only:
            self.optimizers[name].step()
        self._last = step
        return step

    def gradient(self, batch: Batch, only: Iterable[str] | None = None) -> Step:
        """Compute the clipped gradient in `.grad` without an optimizer step."""
        parts = arguments_of(batch)
        for parameters in self._parameters.values():
            for p in parameters:
                p.grad = None
        loss = self._differentiated(batch, parts)
        if self._known is not None:
            self._require_moved(self._known)
            self._known = None
        names = self.optimizers if only is None else only
        moving = [p for name in names for p in self._parameters[name] if p.grad is not None]
        norm = _norm([p.grad for p in moving])
        if any_rank(not math.isfinite(loss + norm)):
            raise NotFinite(self._complaint(float(loss), float(norm), parts))
        if self.clip is not None:
            clip_grads_with_norm_(moving, self.clip, norm)
        return Step(loss, norm)

    def end_step(self) -> None:
        """Update modules that change between steps, schedulers and averages, once a step."""
        self._has_moved = True
        for module in self.plain.modules():  # each once, whatever its names
            if callable(after_step := getattr(module, "after_step", None)):
                after_step(all_gather_shares)
        for scheduler in self.schedulers:
            scheduler.step()
        if self.averaged is not None:
            self.averaged.update_parameters(self.plain)

    def scale_rates(self, factors: Mapping[str, float]) -> None:
        """Multiply each optimizer's learning rate, now and in its schedulers, by a factor."""
        for name, factor in factors.items():
            for group in self.optimizers[name].param_groups:
                group.update({key: group[key] * factor for key in ("lr", "initial_lr") if key in group})
        for scheduler in self.schedulers:
            scheduler.base_lrs = [group["initial_lr"] for group in scheduler.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """The state that the next step depends on, beside batch and random state: tensors and primitives."""
        return {
            "loss": self.plain.state_dict(),
            "optimizers": {name: each.state_dict() for name, each in self.optimizers.items()},
            "schedulers": [each.state_dict() for each in self.schedulers],
            "averaged": None if self.averaged is None else self.averaged.state_dict(),
            "tier": None if self.compiled is None else self.compiled.tier_now,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._has_moved = True
        self.plain.load_state_dict(state["loss"])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        for scheduler, own in zip(self.schedulers, state["schedulers"], strict=True):
            if own.keys() != scheduler.state_dict().keys():
                raise ValueError(f"the schedule's state holds {', '.join(own)}")
            scheduler.load_state_dict(own)
        if self.averaged is not None:
            self.averaged.load_state_dict(state["averaged"])
        if self.compiled is not None and self.compiled.tier == "auto" and state.get("tier") in ("graph", "inductor"):
            self.compiled.tier = state["tier"]  # decided by time, so it might be decided otherwise

    def _differentiated(self, batch: Batch, parts: Sequence[Tensor]) -> Tensor:
        """The loss, detached; its gradients are in `.grad`."""
        try:
            return self.loss.backward(*parts)
        except TypeError as error:
            if words := number_refused(error, batch, len(parts)):
                raise TypeError(words) from error
            raise
        except (RuntimeError, ValueError) as error:  # distributions refuse what is no number
            kind = NotFinite if size() == 1 else FloatingPointError  # the others do not know
            if (row := _bad_row(parts)) is not None:
                raise kind(row) from error
            if (lost := self._lost()) is not None:
                raise kind(self._cure_of(lost)) from error
            if isinstance(error, RuntimeError) and (cause := self._cause(parts)) is not None:
                raise kind(cause) from error
            raise

    def _require_moved(self, known: set[int]) -> None:
        """Refuse parameters made after the optimizers (by a first batch), and optimizers with none of the loss."""
        named = dict(self.plain.named_parameters())
        for name in (name for name, p in named.items() if is_lazy(p)):
            raise ValueError(
                f"parameter {name!r} is still lazy after the first batch, as nothing uses it: remove its layer"
            )
        if late := [name for name, p in named.items() if id(p) not in known and p.requires_grad]:
            raise ValueError(
                f"{len(late)} parameters came with the first batch ({', '.join(late[:3])}{', ...' * (len(late) > 3)}), "
                "and no optimizer has them: run the loss once, loss(x), before making the optimizer"
            )
        if all(p.grad is None for parameters in self._parameters.values() for p in parameters):
            raise ValueError(
                "no optimizer has a parameter that the loss depends on: make one of loss.parameters(), that learn"
            )

    def _lost(self) -> str | None:
        """The first parameter that is not finite; None if all are."""
        return next((name for name, p in self.plain.named_parameters() if not p.isfinite().all()), None)

    def _cure_of(self, lost: str) -> str:
        return f"parameter {lost!r} is not finite: {self._slower() or 'give it numbers to start from'}"

    def _slower(self) -> str:
        """Advice to lower the learning rate; empty before the first step."""
        if self._last is None:
            return "lower the learning rate" if self._has_moved else ""
        rate = max(float(group["lr"]) for each in self.optimizers.values() for group in each.param_groups)
        norm = f"it was {float(self._last.gradient_norm):.3g} one step before"
        clip = "" if self.clip is not None else f", or clip the gradient to a norm of 5, say: {norm}"
        return f"lower the learning rate of {rate:g}{clip}"

    def _cause(self, parts: Sequence[Tensor]) -> str | None:
        """The loss's own explanation of a non-finite value on a batch; None if it has none."""
        explain = getattr(self.plain, "explain", None)
        if not callable(explain):
            return None
        found = explain(*parts)
        slower = self._slower()
        return f"{found}{slower and ', or ' + slower}" if found else None

    def _complaint(self, loss: float, norm: float, parts: Sequence[Tensor]) -> str:
        """Why a step cannot be taken, and what to do."""
        if (row := _bad_row(parts)) is not None:
            return row
        if loss + norm - (loss + norm) == 0:
            return "another process met numbers that are not finite: see its message"
        what = f"the loss is {loss:g}" if loss - loss != 0 else f"the gradient's norm is {norm:g}"
        if (lost := self._lost()) is not None:
            return f"{what}: {self._cure_of(lost)}"
        if (cause := self._cause(parts)) is not None:
            return f"{what}: {cause}"
        if slower := self._slower():
            return f"{what}: {slower}"
        return f"{what} before any step: scale the data, or start from smaller parameters"


def unwrapped(loss: nn.Module) -> tuple[nn.Module, Compiled | None]:
    """The loss within its wrappers for compilation and data parallelism, and the compiled wrapper."""
    compiled = None
    while isinstance(loss, DistributedDataParallel | Compiled):
        compiled = loss if isinstance(loss, Compiled) else compiled
        loss = loss.loss if isinstance(loss, Compiled) else loss.module
    return loss, compiled


def _bad_row(parts: Sequence[Tensor]) -> str | None:
    """The first row of a batch with NaN or infinity, with what to do; None if there is none."""
    for number, part in enumerate(parts):
        finite = torch.atleast_1d(part.isfinite())
        if not finite.all():
            row = int(finite.logical_not().nonzero()[0, 0])
            of = f" in its condition {number}" if number else ""
            return f"row {row} of the batch holds NaN or infinity{of}: remove or repair it"
    return None


def _norm(gradients: list[Tensor]) -> Tensor:
    """The norm of all gradients together, (); without torch's grouping, which costs time on the CPU."""
    if not gradients or gradients[0].is_cuda:
        return get_total_norm(gradients)
    return torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(each) for each in gradients]))
