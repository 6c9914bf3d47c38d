"""A program of codes whose prior alone learns, on data that were encoded once.

    p(v) = prior,   log p(x | v) as it was computed,   q = the code that was found

log p(x, v) is what the whole program gives it; neither encoder nor decoder runs.
"""

from collections.abc import Mapping
from typing import Any

import pyro
from torch import Tensor, nn

from pplvm.distributions.known_code import KnownCode
from pplvm.distributions.known_density import KnownDensity

__all__ = ["OverCodes"]


class OverCodes(nn.Module):
    """A program with point posteriors over discrete codes, run on codes in place of data.

    It is a view: modules, parameters and buffers are those of the whole program, under the same names.

    Arguments:
        program: the whole program. `draw_codes(*conditions)` draws the codes from the prior within the batch plate, as
            of `VQVAE`; what else the model draws there, `draw_auxiliary()` draws in the guide.
        sites: (N, K) of each site of codes, by name, in the guide's order.
        penalties: names of the guide's deterministic sites.

    `model(index, terms, *conditions)` and `guide(index, terms, *conditions)` take the codes of all sites side by side,
    (B, sum of N) integers, and for each datum log p(x | codes) and its penalties, (B, 1 + P), in nats.

    Example:
        >>> import torch
        >>> from pplvm.programs.vq_vae import vq_vae
        >>> program = OverCodes(vq_vae(64, grid=(2, 2), num_codes=16, prior="pixelcnn"), {"codes": (4, 16)}, ())
        >>> program.guide(torch.zeros(3, 4, dtype=torch.long), torch.zeros(3, 1))
        >>> "codebook.codes" in program.state_dict()
        True
    """

    def __init__(self, program: nn.Module, sites: Mapping[str, tuple[int, int]], penalties: tuple[str, ...]) -> None:
        super().__init__()
        vars(self).update(_modules=program._modules, _parameters=program._parameters, _buffers=program._buffers)
        vars(self).update(whole=program, sites=dict(sites), penalties=penalties)  # no module of its own: a view
        self._non_persistent_buffers_set = program._non_persistent_buffers_set

    whole: Any

    @property
    def default_objective(self) -> str | None:
        """That of the whole program."""
        return getattr(self.whole, "default_objective", None)

    @property
    def default_penalties(self) -> dict[str, float]:
        """Those of the whole program."""
        return getattr(self.whole, "default_penalties", {})

    def model(self, index: Tensor, terms: Tensor, *conditions: Tensor) -> None:
        with pyro.plate("batch", len(index)):
            self.whole.draw_codes(*conditions)
            pyro.sample("x", KnownDensity(terms[:, 0]), obs=terms[:, 0])

    def guide(self, index: Tensor, terms: Tensor, *conditions: Tensor) -> None:
        of_sites = index.long().split([positions for positions, _ in self.sites.values()], -1)
        with pyro.plate("batch", len(index)):
            getattr(self.whole, "draw_auxiliary", dict)()
            for (name, (_, num_codes)), codes in zip(self.sites.items(), of_sites, strict=True):
                pyro.sample(name, KnownCode(codes, num_codes, terms.dtype).to_event(1))  # (B, N, K)
            for number, name in enumerate(self.penalties, start=1):
                pyro.deterministic(name, terms[:, number])
