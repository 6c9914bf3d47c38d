"""Sampling of autoregressive models with a cache, one step a value instead of a full pass for each.

p(v) = prod_i p(v_i | v_1 .. v_i-1),     v_i in the order of a value flattened
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor
from torch.distributions import Distribution

__all__ = ["Step", "ValueByValue", "draw_by_steps", "draw_value_by_value"]

Step = Callable[[Any, Tensor | None], tuple[Distribution, Any]]
"""From a cache and the values drawn last, in the shape they were drawn in and None at first, to the distribution of
each row's next values, (N,) or (N, n) when drawn, and the next step's cache."""


@runtime_checkable
class ValueByValue(Protocol):
    """The protocol of programs whose model can sample its data value by value.

    A program whose likelihood is an `Autoregressive` distribution needs none of it.

    References:
        van den Oord, Kalchbrenner and Kavukcuoglu, Pixel recurrent neural networks, 2016, arXiv:1601.06759
    """

    def init_cache(self, latents: Mapping[str, Tensor], num_data: int, *conditions: Tensor) -> Any:
        """The cache before the first step.

        Arguments:
            latents: the values of the model's sites, in the shapes that it draws them in.
            num_data: N.
            conditions: what the model takes beside x, (N, ...) each; a model(x) needs no such argument.
        """
        ...

    def step(self, cache: Any, before: Tensor | None) -> tuple[Distribution, Any]:
        """The distribution of the next values of each datum, (N,) or (N, n), and the updated cache.

        Arguments:
            cache: of `init_cache` or of the last step.
            before: the values drawn last, in the shape they were drawn in; None at the first step.
        """
        ...


def draw_value_by_value(
    program: ValueByValue,
    latents: Mapping[str, Tensor],
    num_data: int,
    size: int,
    conditions: Sequence[Tensor] = (),
) -> tuple[list[Distribution], list[Tensor]]:
    """Sample a program's data value by value; returns distribution and draw of each step.

    Arguments:
        latents: where the data hang on them.
        num_data: N.
        size: D, the values of a datum.
        conditions: of the data, (N, ...) each.

    Raises:
        ValueError: the steps give a datum more than D values.
    """
    return draw_by_steps(program.step, program.init_cache(latents, num_data, *conditions), num_data, size)


def draw_by_steps(step: Step, cache: Any, num_rows: int, size: int) -> tuple[list[Distribution], list[Tensor]]:
    """Sample value by value until a row is complete; returns distribution and draw of each step.

    Arguments:
        cache: of the first step.
        num_rows: N.
        size: D, the values of a row.

    Raises:
        ValueError: the steps give a row more than D values.
    """
    before, distributions, draws, done = None, [], [], 0
    while done < size:
        distribution, cache = step(cache, before)
        before = distribution.sample()
        distributions.append(distribution)
        draws.append(before)
        done += before.numel() // num_rows
    if done > size:
        raise ValueError(f"the steps give {done} values a datum, which has {size}: let them give as many as it has")
    return distributions, draws
