"""Multilayer perceptrons."""

from collections.abc import Sequence

from torch import Tensor, nn

__all__ = ["MLP", "activation_named"]

ACTIVATIONS: dict[str, type[nn.Module]] = {"softplus": nn.Softplus, "tanh": nn.Tanh, "elu": nn.ELU}


class MLP(nn.Module):
    """A multilayer perceptron; a single linear layer if there are no hidden sizes.

    Arguments:
        in_size, out_size: sizes of the last dimension, (..., in_size) -> (..., out_size).
        hidden_sizes: widths in between.
        activation: the module class applied after each hidden layer.

    Raises:
        ValueError: a size is below 1.

    Example:
        >>> import torch
        >>> MLP(3, 2, hidden_sizes=(5,))(torch.zeros(7, 4, 3)).shape
        torch.Size([7, 4, 2])
    """

    def __init__(
        self,
        in_size: int,
        out_size: int,
        hidden_sizes: Sequence[int] = (),
        activation: type[nn.Module] = nn.Tanh,
    ) -> None:
        super().__init__()
        sizes = [in_size, *hidden_sizes]
        if min(*sizes, out_size) < 1:
            raise ValueError(f"MLP: sizes must be at least 1, got {tuple(sizes)} and {out_size}")
        layers: list[nn.Module] = []
        for narrow, wide in zip(sizes[:-1], sizes[1:], strict=True):
            layers += [nn.Linear(narrow, wide), activation()]
        self.layers = nn.Sequential(*layers, nn.Linear(sizes[-1], out_size))

    @property
    def last(self) -> nn.Linear:
        """The output layer."""
        layer = self.layers[-1]
        assert isinstance(layer, nn.Linear)
        return layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def activation_named(name: str) -> type[nn.Module]:
    """The activation of hidden layers that has this name: softplus, tanh or elu.

    Raises:
        ValueError: there is none.
    """
    if name not in ACTIVATIONS:
        raise ValueError(f"activation must be {', '.join(map(repr, ACTIVATIONS))}, got {name!r}")
    return ACTIVATIONS[name]
