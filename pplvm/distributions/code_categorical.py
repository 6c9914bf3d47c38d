"""The code of a codebook drawn by its distance to a vector: the stochastic guide of vector quantization.

q(k) is proportional to exp(-|z - e_k|^2 / 2T),   which tends to the nearest code as T falls
"""

from collections.abc import Sequence
from typing import Any

import torch
from pyro.distributions import OneHotCategorical
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.constraints import Constraint

from pplvm.distributions.nearest_code import require_codes, without_autocast

__all__ = ["CodeCategorical"]


class CodeCategorical(OneHotCategorical):
    """A one-hot categorical whose logits are -|z - e_k|^2 / 2T.

        q(k) = exp(-|z - e_k|^2 / 2T) / sum_j exp(-|z - e_j|^2 / 2T)

    It is the posterior of the code under equal shares of N(e_k, T I). As any OneHotCategorical it has no path:
    its gradient is that of every objective for categorical latents.

    Arguments:
        z: (..., D).
        codes: e, (K, D), at least two.
        temperature: T, above 0, a number or broadcastable to the batch shape of z, (...).

    Raises:
        ValueError: codes are not (K, D), with K at least 2 and the D of z; the temperature is not above 0, if arguments
            are validated.

    Example:
        >>> codes = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
        >>> CodeCategorical(torch.tensor([0.5, 0.5]), codes, temperature=0.1).probs
        tensor([0.5000, 0.5000])

    References:
        Takida, Shibuya, Liao, Lai, Ohmura, Uesaka, Murata, Takahashi, Kumakura and Mitsufuji, SQ-VAE: variational
        Bayes on discrete representation with self-annealed stochastic quantization, 2022, arXiv:2205.07547
    """

    arg_constraints: dict[str, Constraint] = {  # pyright: ignore[reportIncompatibleMethodOverride]
        "z": constraints.real_vector,
        "codes": constraints.independent(constraints.real, 2),
        "temperature": constraints.positive,
    }

    def __init__(
        self, z: Tensor, codes: Tensor, temperature: Tensor | float, validate_args: bool | None = None
    ) -> None:
        require_codes(type(self).__name__, z, codes)
        self.z, self.codes = z, codes
        self.temperature = torch.as_tensor(temperature, dtype=z.dtype, device=z.device)
        super().__init__(logits=self._logits(), validate_args=validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> "CodeCategorical":
        shape = torch.Size(batch_shape)
        new: Any = self._get_checked_instance(CodeCategorical, _instance)
        new.z, new.codes = self.z.expand(*shape, -1), self.codes
        new.temperature = self.temperature.expand(shape) if self.temperature.dim() else self.temperature
        return super().expand(shape, _instance=new)

    def _logits(self) -> Tensor:
        """Up to a constant that all codes share, (..., K), in float32 at least."""
        dtype = torch.promote_types(torch.promote_types(self.z.dtype, self.codes.dtype), torch.float32)
        with without_autocast(self.z.device):
            z, codes = self.z.to(dtype), self.codes.to(dtype)
            near = z @ codes.T - codes.square().sum(-1) / 2
            return near / self.temperature.to(dtype)[..., None]
