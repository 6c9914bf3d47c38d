"""Data drawn from an autoregressive model in one step a value, never in a full pass for each.

p(x | z) = prod_i p(x_i | x_1 .. x_i-1, z),     x_i in the order of a datum flattened
"""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from torch import Tensor
from torch.distributions import Distribution

__all__ = ["ValueByValue", "draw_value_by_value"]


@runtime_checkable
class ValueByValue(Protocol):
    """What a program offers beside `model` whose data are drawn from those before them.

    References:
        van den Oord, Kalchbrenner and Kavukcuoglu, Pixel recurrent neural networks, 2016, arXiv:1601.06759
    """

    def init_cache(self, latents: Mapping[str, Tensor], num_data: int) -> Any:
        """All that the first step needs.

        Arguments:
            latents: the values of the model's sites, in the shapes that it draws them in.
            num_data: N.
        """
        ...

    def step(self, cache: Any, before: Tensor | None) -> tuple[Distribution, Any]:
        """The distribution of the next values of each datum, (N,) or (N, n) when drawn, and the next step's cache.

        Arguments:
            cache: of `init_cache` or of the last step.
            before: the values drawn last, in the shape they were drawn in; None at the first step.
        """
        ...


def draw_value_by_value(
    program: ValueByValue, latents: Mapping[str, Tensor], num_data: int, size: int
) -> tuple[list[Distribution], list[Tensor]]:
    """The distribution and the draw of each step, until a datum has all of its values.

    Arguments:
        latents: where the data hang on them.
        num_data: N.
        size: D, the values of a datum.

    Raises:
        ValueError: the steps give a datum more than D values.
    """
    cache, before, distributions, draws, done = program.init_cache(latents, num_data), None, [], [], 0
    while done < size:
        distribution, cache = program.step(cache, before)
        before = distribution.sample()
        distributions.append(distribution)
        draws.append(before)
        done += before.numel() // num_data
    if done > size:
        raise ValueError(f"the steps give {done} values a datum, which has {size}: let them give as many as it has")
    return distributions, draws
