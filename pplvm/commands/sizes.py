"""What a run's settings ask for, held against its weights while the program is built: a file cannot ask for more."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

__all__ = ["only_parameters_of"]


@contextmanager
def only_parameters_of(weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Within, no module can be built with a parameter of a shape that the weights do not hold, or too many of them.

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
