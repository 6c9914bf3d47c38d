"""Limits the parameters that a run's settings can allocate to those in its checkpoint."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

__all__ = ["limit_parameters_to"]


@contextmanager
def limit_parameters_to(weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Within this context, a module can register only parameters of the shapes and number that the weights have.

    Raises:
        ValueError: one is, at once, before the next one is made.
    """
    left = Counter(tuple(value.shape) for value in weights.values())

    def hold(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
        shape = tuple(parameter.shape)
        left[shape] -= 1
        if left[shape] < 0:
            raise ValueError(
                f"the settings ask for a {type(module).__name__} with a {name} of shape {shape}, of which the weights "
                "hold none, or fewer"
            )

    hook = register_module_parameter_registration_hook(hold)
    try:
        yield
    finally:
        hook.remove()
