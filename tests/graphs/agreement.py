"""A loss trained in one tier, so that tiers can be held against each other."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pplvm.graphs.compiled import Compiled, Tier, compiled
from pplvm.objectives.objective import Loss

STEPS = 10


@dataclass
class Trained:
    """What ten steps from one seed came to."""

    values: Tensor  # (STEPS,)
    gradients: list[Tensor]  # (P,) each
    state: Tensor  # parameters and buffers at the end
    random: Tensor
    step: Compiled

    def differs_from(self, other: "Trained") -> tuple[float, float, float]:
        """The largest relative difference of a value, of a gradient, and of what was learned."""
        value = ((self.values - other.values) / other.values).abs().max()
        gradient = max((a - b).norm() / b.norm() for a, b in zip(self.gradients, other.gradients, strict=True))
        return float(value), float(gradient), float((self.state - other.state).norm() / other.state.norm())


def trained(
    build: Callable[[], Loss],
    tier: Tier,
    batch: Callable[[int], Tensor],
    before: Callable[[int, Loss], None] = lambda step, loss: None,
    change: Callable[[Compiled], None] = lambda step: None,
    cast: bool = False,
) -> Trained:
    """Ten steps of Adam from one seed, its parameters in two groups, the gradient clipped.

    Arguments:
        build: makes the same loss whenever it is called.
        batch: of each step.
        before: what a user does before each step.
        change: done to the compiled loss after its first step.
        cast: whether each step is under autocast to bfloat16.
    """
    torch.manual_seed(1)
    loss = build()
    loss(batch(0))  # makes what is made on a first batch
    step = compiled(loss, tier)
    first, *others = [p for p in loss.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam([{"params": [first], "lr": 0.02}, {"params": others}], lr=0.01, fused=True)
    torch.manual_seed(3)
    values, gradients = [], []
    for number in range(STEPS):
        before(number, loss)
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=cast):
            values.append(step.backward(batch(number)))
        torch.nn.utils.clip_grad_norm_(loss.parameters(), 5.0)
        gradients.append(torch.cat([p.grad.flatten() for p in loss.parameters() if p.grad is not None]))
        optimizer.step()
        if number == 0:
            change(step)
    state = torch.cat([value.detach().double().flatten() for value in loss.state_dict().values()])
    return Trained(torch.stack(values), gradients, state, torch.get_rng_state(), step)
