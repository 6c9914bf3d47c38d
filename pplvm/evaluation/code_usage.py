"""How many of its codes a program uses: the perplexity of their shares, and the share of codes used at all.

perplexity = exp(-sum_k p_k log p_k)     K where all are used alike, 1 where one is
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import constraints

from pplvm.batch import Batch, as_tuple
from pplvm.evaluation.figures import Figure
from pplvm.evaluation.per_datum import Seed, each_datum, evaluation_mode
from pplvm.particles.contract import latents
from pplvm.particles.pair import Pair

__all__ = ["CodeUsage", "code_usage", "perplexity", "share_used"]


def perplexity(shares: Tensor) -> Tensor:
    """The exponential of the entropy of shares, or of counts: (..., K) to (...).

    Example:
        >>> perplexity(torch.tensor([[3.0, 3.0, 0.0], [5.0, 0.0, 0.0]]))
        tensor([2., 1.])
    """
    shares = shares / shares.sum(-1, keepdim=True)
    return torch.special.entr(shares).sum(-1).exp()


def share_used(shares: Tensor) -> Tensor:
    """How many of the shares, or counts, are not zero, as a fraction of all: (..., K) to (...)."""
    return (shares > 0).to(shares.dtype).mean(-1)


@dataclass(frozen=True)
class CodeUsage:
    """Which codes each datum has, by site.

    Arguments:
        counts: how many positions of a datum have each code, one draw a datum, (N, K) each, float64.
    """

    counts: dict[str, Tensor]

    @property
    def shares(self) -> dict[str, Tensor]:
        """The share of each code in all positions of all data, (K,)."""
        return {name: counts.sum(0) / counts.sum() for name, counts in self.counts.items()}

    @property
    def figures(self) -> list[Figure]:
        return [figure for name in self.counts for figure in self._of(name)]

    def _of(self, name: str) -> Iterator[Figure]:
        shares, counts = self.shares[name], self.counts[name]
        (N, K), positions = counts.shape, int(counts[0].sum())
        pooled = f", its {positions} positions pooled" if positions > 1 else ""
        how = f"{N:,} data, one draw each{pooled}"
        yield Figure(f"perplexity of {name}", float(perplexity(shares)), None, "codes", f"of {K}; over {how}")
        used = int((shares > 0).sum())
        yield Figure(
            f"codes used by {name}", 100 * float(share_used(shares)), None, "%", f"{used} of {K}, at least once"
        )


def code_usage(program: nn.Module, x: Batch, *, seed: Seed = 0) -> CodeUsage:
    """Count the codes of each datum in every one-hot latent of the guide; evaluation mode, no gradient.

    The K categories of a site are those of a codebook that all its positions share, and are counted together.

    Arguments:
        program: with methods model(x) and guide(x); the guide alone is run.
        x: data (N, *shape), or data and their conditions, (x, y).
        seed: of the draws, or one for each datum (`datum_seeds`); the nearest code of `NearestCode` needs none.

    Raises:
        ProgramError: the program breaks a rule. ValueError: there are no data.

    Example:
        >>> from pplvm.programs.vq_vae import vq_vae
        >>> found = code_usage(vq_vae(4, grid=(1, 2), num_codes=8), torch.eye(4))
        >>> found.counts["codes"].shape
        torch.Size([4, 8])
    """
    rows: dict[str, list[Tensor]] = {}
    with evaluation_mode(program, x) as pair:
        for row in each_datum(x, seed):
            for name, counts in _counts(pair, as_tuple(row)).items():
                rows.setdefault(name, []).append(counts)
    return CodeUsage({name: torch.stack(each) for name, each in rows.items()})


def _counts(pair: Pair, row: tuple[Tensor, ...]) -> dict[str, Tensor]:
    """How often one datum has each code, (K,), by one-hot site."""
    if pair.guide is None:
        return {}
    drawn = latents(pair.run_guide(1, row, {}))
    return {
        name: site["value"].double().reshape(-1, site["value"].shape[-1]).sum(0).cpu()
        for name, site in drawn.items()
        if _is_one_hot(site["fn"].support) and not site["infer"].get("is_auxiliary")
    }


def _is_one_hot(support: Any) -> bool:
    while hasattr(support, "base_constraint"):  # of .to_event()
        support = support.base_constraint
    return support is constraints.one_hot
