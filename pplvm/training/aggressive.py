"""Aggressive training of the guide against posterior collapse (lagging inference networks, He et al. 2019)."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from pplvm.batch import Batch
from pplvm.distributed.collectives import all_reduce_mean as mean_over_ranks
from pplvm.training.stepper import Step, Stepper

__all__ = ["Aggressive"]


class Aggressive:
    """A rule of `fit`: train the guide to near convergence before each step of the model, as long as that helps.

    On each batch the guide moves on it and then on fresh batches, until its mean loss over `window` steps rises or
    `most` are taken; then everything but the guide moves once. `end_epoch` asks for the mutual information I_q(x; z)
    on validation data; once it has not grown for `patience` epochs, training goes on as usual, for good.
    So many steps of plain SGD diverge at rates that Adam would forgive: clip the gradient, at 5 as He et al. do.

    Arguments:
        fresh: batches for the inner steps, with their conditions where there are some, without end.
        guide: the name of the guide's optimizer.
        most: inner steps to one of the model.
        window: inner steps between two looks at their mean loss.
        patience: epochs without more information.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from pplvm.training.fit import fit
        >>> both = nn.ModuleDict({"model": nn.Linear(1, 1), "guide": nn.Linear(1, 1)})
        >>> optimizers = {name: torch.optim.SGD(part.parameters(), lr=0.1) for name, part in both.items()}
        >>> loss = nn.Sequential(both["guide"], both["model"], nn.Softplus(), nn.Flatten(0))
        >>> batches = iter(lambda: torch.ones(1, 1), None)
        >>> rule = Aggressive(batches, most=20)
        >>> values = list(fit(loss, 3 * [torch.ones(1, 1)], optimizers, rule=rule))
        >>> rule.inner_steps
        60

    References:
        He, Spokoyny, Neubig and Berg-Kirkpatrick, Lagging inference networks and posterior collapse in variational
        autoencoders, 2019, arXiv:1901.05534, algorithm 1
    """

    def __init__(
        self, fresh: Iterator[Batch], guide: str = "guide", most: int = 100, window: int = 10, patience: int = 5
    ) -> None:
        if min(most, window, patience) < 1:
            raise ValueError(
                f"Aggressive: most, window and patience must be at least 1, got {most}, {window}, {patience}"
            )
        self.fresh, self.guide, self.most, self.window, self.patience = fresh, guide, most, window, patience
        self.is_on, self.inner_steps = True, 0
        self._best, self._epochs_since = -math.inf, 0

    def __call__(self, stepper: Stepper, batch: Batch) -> Step:
        if self.guide not in stepper.optimizers:
            names = ", ".join(stepper.optimizers)
            raise ValueError(f"Aggressive: no optimizer is named {self.guide!r}, only {names}: give the guide its own")
        if not self.is_on:
            return stepper(batch)
        self._train_guide(stepper, batch)
        return stepper(batch, only=[name for name in stepper.optimizers if name != self.guide])

    def _train_guide(self, stepper: Stepper, batch: Batch) -> None:
        before = math.inf
        losses: list[Tensor] = []
        for inner in range(self.most):
            try:
                losses.append(stepper(batch, only=[self.guide]).loss)
            except FloatingPointError as error:
                raise type(error)(f"inner step {inner} of the guide: {error}") from error
            self.inner_steps += 1
            if len(losses) == self.window:
                mean = float(mean_over_ranks(torch.stack(losses).mean()))  # of all ranks, which must agree
                if mean > before:
                    return
                before, losses = mean, []
            batch = next(self.fresh)

    def end_epoch(self, information: Callable[[], float]) -> None:
        """Stop aggressive training once mutual information no longer rises.

        Arguments:
            information: gives I_q(x; z) on validation data, in nats; not called once the rule is off.
        """
        if not self.is_on:
            return
        found = information()
        self._epochs_since = 0 if found > self._best else self._epochs_since + 1
        self._best = max(found, self._best)
        self.is_on = self._epochs_since < self.patience

    def state_dict(self) -> dict[str, Any]:
        return {
            "is_on": self.is_on,
            "inner_steps": self.inner_steps,
            "best": self._best,
            "epochs_since": self._epochs_since,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.is_on, self.inner_steps = bool(state["is_on"]), int(state["inner_steps"])
        self._best, self._epochs_since = float(state["best"]), int(state["epochs_since"])
