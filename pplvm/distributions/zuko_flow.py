"""Normalizing flows of zuko (splines, neural autoregressive flows and more) as Pyro distributions.

log p(z) = log N(f(z); 0, I) + log |df/dz|,     f of zuko
"""

import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
from pyro.distributions import TorchDistribution, constraints
from pyro.infer.util import is_validation_enabled
from torch import Tensor
from torch.distributions import Distribution
from torch.distributions.constraints import Constraint

__all__ = ["ZukoFlow", "import_zuko"]

VECTORS: Constraint = constraints.real_vector


class ZukoFlow(TorchDistribution):
    """A distribution of zuko's as a Pyro distribution, for plates, particles, guides and priors.

        log p(z) = log base(f(z)) + log |df/dz|

    A draw comes with its density, in one pass, which is remembered: the density of that very draw costs no other.
    The density of other values costs the transform f, draws its inverse. zuko's autoregressive flows have f in one pass
    and its inverse in Z: the right way round for priors. For a guide whose draws take one pass, turn the transform:
    `NormalizingFlow(flow.transform(h).inv, flow.base(h).expand(h.shape[:-1]))` of `zuko.distributions`. zuko inverts
    its NAF by bisection between -10 and 10, and cuts draws there: turned it is a guide; for priors take UNAF or NSF.

    Arguments:
        flow: what a flow of zuko's gives: `flow()`, or `flow(h)` of a context (*batch_shape, H).
        support: of z; of most flows all real vectors.

    Raises:
        ImportError: zuko is not installed.
        TypeError: flow is a module of zuko's that was not called, or another object.

    Example:
        >>> zuko = import_zuko()  # doctest: +SKIP
        >>> spline = zuko.flows.NSF(features=2, context=3)  # doctest: +SKIP
        >>> ZukoFlow(spline(torch.zeros(5, 3))).rsample((7,)).shape  # doctest: +SKIP
        torch.Size([7, 5, 2])

    References:
        Durkan, Bekasov, Murray and Papamakarios, Neural spline flows, 2019, arXiv:1906.04032
        Huang, Krueger, Lacoste and Courville, Neural autoregressive flows, 2018, arXiv:1804.00779
    """

    arg_constraints: dict[str, Constraint] = {}  # pyright: ignore[reportIncompatibleMethodOverride]

    def __init__(self, flow: Distribution, support: Constraint = VECTORS, validate_args: bool | None = None) -> None:
        import_zuko()
        if not hasattr(flow, "rsample_and_log_prob"):
            raise TypeError(
                f"ZukoFlow: flow must be a distribution that a flow of zuko's gives, as flow() or flow(context), got "
                f"{type(flow).__name__}"
            )
        self.flow, self._of_values = flow, support
        self._draw: tuple[Tensor, Tensor, bool] | None = None
        super().__init__(flow.batch_shape, flow.event_shape, validate_args=validate_args)

    @property
    def support(self) -> Constraint:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._of_values

    @property
    def has_rsample(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return bool(getattr(self.flow, "base", self.flow).has_rsample)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> "ZukoFlow":
        new = ZukoFlow(self.flow.expand(torch.Size(batch_shape)), self._of_values, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        value, log_prob = self.flow.rsample_and_log_prob(torch.Size(sample_shape))
        self._draw = value, log_prob, torch.is_grad_enabled()
        return value

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        with torch.no_grad():
            return self.rsample(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        if self._draw is not None and self._draw[0] is value and (self._draw[2] or not torch.is_grad_enabled()):
            return self._draw[1]
        return self.flow.log_prob(value)


def import_zuko() -> ModuleType:
    """The module zuko, with torch's validation of arguments as it was before: `import zuko` switches it off.

    Where zuko was imported before this is called, validation is set as Pyro's is.

    Raises:
        ImportError: zuko is not installed.
    """
    was_imported, before = "zuko" in sys.modules, Distribution._validate_args
    try:
        import zuko
        import zuko.distributions
    except ImportError as error:
        raise ImportError("ZukoFlow needs zuko, which is not installed: pip install 'pplvm[flows]'") from error
    if isinstance(Distribution.__dict__["arg_constraints"], dict):
        Distribution.set_default_validate_args(is_validation_enabled() if was_imported else before)
        Distribution.arg_constraints = ARGUMENT_CONSTRAINTS
        for each in vars(zuko.distributions).values():
            if isinstance(each, type) and issubclass(each, Distribution) and each.__module__.startswith("zuko."):
                each.arg_constraints = {}  # as torch asks of classes that name none
    return zuko


def _no_argument_constraints(self: Distribution) -> dict[str, Constraint]:
    raise NotImplementedError


_found = Distribution.__dict__["arg_constraints"]
ARGUMENT_CONSTRAINTS = property(_no_argument_constraints) if isinstance(_found, dict) else _found
"""Torch's own, which zuko replaces by an empty dictionary."""
