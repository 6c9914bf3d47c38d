"""All scores of disentanglement of one program's codes, as figures of an evaluation."""

__all__ = ["SECTION", "Disentanglement", "disentanglement"]

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pplvm.evaluation.disentanglement.attribute_predictability import separated_attribute_predictability
from pplvm.evaluation.disentanglement.codes_and_levels import LEAST_VARIANCE, codes_and_levels
from pplvm.evaluation.disentanglement.dci import DCI, disentanglement_completeness_informativeness
from pplvm.evaluation.disentanglement.factor_vae import factor_vae_score
from pplvm.evaluation.disentanglement.higgins import higgins_score
from pplvm.evaluation.disentanglement.mutual_information import (
    BINS,
    factor_entropies,
    factor_information,
    mutual_information_gap,
)
from pplvm.evaluation.figures import Figure

SECTION = "disentanglement, one seed"
"""The heading of the scores. Scores of one model differ more by its seed than by the model (Locatello et al., 2019)."""


@dataclass(frozen=True)
class Disentanglement:
    """Scores of codes against factors, and the tables of latents by factors behind them.

    Arguments:
        scores: by name.
        chance: the same scores where codes and factors are of different data.
        factor_names: of the F factors.
        latent_names: of the Z latents.
        sizes: their numbers of levels.
        active: how many of the Z latents are active.
        bins: of each latent, for MIG.
        information: of latents and factors as shares of each factor's entropy, (Z, F).
        importances: R of DCI, (Z, F).
    """

    scores: dict[str, float]
    chance: dict[str, float]
    factor_names: tuple[str, ...]
    latent_names: tuple[str, ...]
    sizes: tuple[int, ...]
    active: int
    bins: int
    information: np.ndarray
    importances: np.ndarray

    @property
    def figures(self) -> list[Figure]:
        """A figure for each score, with its chance level and what it depends on."""
        of = f"means of {len(self.information)} latents, {len(self.factor_names)} factors"
        on = {
            "MIG": f"{of}, {self.bins} bins",
            "SAP": f"thresholds on one latent, at most {1 - np.mean(1 / np.array(self.sizes)):.2f}",
            "DCI disentanglement": "random forests",
            "DCI completeness": "random forests",
            "DCI informativeness": "random forests, held-out accuracy",
            "FactorVAE score": f"{self.active} active latents",
            "Higgins' score": f"{self.active} active latents, linear classifier",
        }
        return [
            Figure(name, value, None, "", f"chance {self.chance[name]:.2f}; {on[name]}")
            for name, value in self.scores.items()
        ]


def disentanglement(
    codes: Tensor,
    factors: Tensor,
    *,
    factor_names: Sequence[str] = (),
    latent_names: Sequence[str] = (),
    bins: int = BINS,
    seed: int = 0,
) -> Disentanglement:
    """MIG, SAP, DCI, FactorVAE's and Higgins' score of codes against known factors.

    Arguments:
        codes: (N, Z), posterior means of all latents.
        factors: (N, F) integers, the level of each factor.
        factor_names: F; "factor 1", ... unless given.
        latent_names: Z; "0", ... unless given.
        bins: of each latent, for MIG.
        seed: of all draws and halves of the data.

    Raises:
        ValueError: as of each score.

    Example:
        >>> factors = torch.cartesian_prod(torch.arange(3), torch.arange(4)).repeat(30, 1)
        >>> print(disentanglement(factors.double(), factors).figures[0])
        MIG 1.00  (chance 0.00; means of 2 latents, 2 factors, 20 bins)

    References:
        Locatello, Bauer, Lucic, Raetsch, Gelly, Schoelkopf and Bachem, Challenging common assumptions in the
        unsupervised learning of disentangled representations, 2019, arXiv:1811.12359 (the scores side by side)
    """
    found = codes_and_levels(codes, factors)
    names = tuple(factor_names) or tuple(f"factor {number + 1}" for number in range(len(found.sizes)))
    scores, dci = _scores(codes, factors, bins, seed)
    others = torch.from_numpy(np.random.default_rng(seed).permutation(len(codes)))
    return Disentanglement(
        scores=scores,
        chance=_scores(codes, factors[others.to(factors.device)], bins, seed)[0],
        factor_names=names,
        latent_names=tuple(latent_names) or tuple(map(str, range(codes.shape[1]))),
        sizes=found.sizes,
        active=int((found.codes.var(0) > LEAST_VARIANCE).sum()),
        bins=bins,
        information=factor_information(codes, factors, bins=bins) / factor_entropies(factors),
        importances=dci.importances,
    )


def _scores(codes: Tensor, factors: Tensor, bins: int, seed: int) -> tuple[dict[str, float], DCI]:
    dci = disentanglement_completeness_informativeness(codes, factors, seed=seed)
    scores = {
        "MIG": mutual_information_gap(codes, factors, bins=bins),
        "SAP": separated_attribute_predictability(codes, factors, seed=seed),
        "DCI disentanglement": dci.disentanglement,
        "DCI completeness": dci.completeness,
        "DCI informativeness": dci.informativeness,
        "FactorVAE score": factor_vae_score(codes, factors, seed=seed),
        "Higgins' score": higgins_score(codes, factors, seed=seed),
    }
    return scores, dci
