"""Learned baselines, subtracted from the learning signal of a score-function gradient.

A baseline must not depend on the draw that it is subtracted from, or the gradient shrinks: each predicts
from what came before and only then observes.
"""

import torch
from torch import Tensor, nn

__all__ = ["LearnedBaseline", "MovingAverage"]


class MovingAverage(nn.Module):
    """An exponential moving average of past learning signals, bias-corrected for its start at zero.

        average_t = sum_{s<t} decay^(t-1-s) signal_s / sum_{s<t} decay^(t-1-s)

    In `eval` mode it stands still, as for measuring a gradient at a frozen checkpoint.

    Arguments:
        decay: in [0, 1).

    Raises:
        ValueError: decay is outside [0, 1).

    References:
        Williams, Simple statistical gradient-following algorithms, 1992 (reinforcement baseline)
        Kingma and Ba, Adam, 2015, arXiv:1412.6980, section 3 (the correction of the start)
    """

    total: Tensor
    weight: Tensor

    def __init__(self, decay: float = 0.9) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise ValueError(f"MovingAverage: decay must be in [0, 1), got {decay}")
        self.decay = decay
        self.register_buffer("total", torch.zeros(()))
        self.register_buffer("weight", torch.zeros(()))

    def forward(self, *args: Tensor) -> Tensor:
        """The average so far, (), in nats; zero before the first observation."""
        return self.total / self.weight.clamp(min=torch.finfo(self.weight.dtype).tiny)

    @torch.no_grad()
    def observe(self, signal: Tensor) -> None:
        """Update the average with the signals (K, B) of one step, after they were used."""
        if self.training:
            self.total.mul_(self.decay).add_(signal.mean())
            self.weight.mul_(self.decay).add_(1.0)


class LearnedBaseline(nn.Module):
    """A moving average plus a network of the data, fitted to the learning signal by least squares (NVIL).

        b(x) = average + network(x),     trained by d/dpsi mean (signal - b(x))^2

    NVIL also divides the signal by its running deviation; that rescales the gradient, so it is left out.

    Arguments:
        data_size: D, the size of one flattened datum.
        hidden_size: width of the one tanh layer.

    References:
        Mnih and Gregor, Neural variational inference and learning in belief networks, 2014, arXiv:1402.0030
    """

    def __init__(self, data_size: int, hidden_size: int = 100) -> None:
        super().__init__()
        self.average = MovingAverage()
        self.network = nn.Sequential(
            nn.Flatten(), nn.Linear(data_size, hidden_size), nn.Tanh(), nn.Linear(hidden_size, 1)
        )

    def forward(self, *args: Tensor) -> Tensor:
        """The predicted signal of each datum, (B,), in nats; the first argument is the data (B, ...)."""
        return self.average() + self.network(args[0].reshape(len(args[0]), -1)).squeeze(-1)

    def observe(self, signal: Tensor) -> None:
        self.average.observe(signal)
