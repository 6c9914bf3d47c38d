"""Every score on codes whose score is known: the factors, rotated, copied, and others that know nothing."""

import numpy as np
import pytest
import torch

from pplvm.evaluation.disentanglement.attribute_predictability import (
    factor_accuracies,
    separated_attribute_predictability,
)
from pplvm.evaluation.disentanglement.dci import disentanglement_completeness_informativeness
from pplvm.evaluation.disentanglement.factor_vae import factor_vae_score
from pplvm.evaluation.disentanglement.higgins import higgins_score
from pplvm.evaluation.disentanglement.mutual_information import (
    factor_entropies,
    factor_information,
    mutual_information_gap,
)
from tests.evaluation.known_codes import grid, independent, rotated

FACTORS = grid(3, 5, 8, times=12)
SIZES = (3, 5, 8)


def noisy(factors, width=5, seed=0):
    """Codes with latents beside them that no factor moves."""
    noise = torch.randn(len(factors), width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.cat([factors.double(), 0.01 * noise], 1)


def test_codes_that_are_the_factors_are_perfect():
    codes = FACTORS.double()
    assert mutual_information_gap(codes, FACTORS, bins=8) == pytest.approx(1, abs=1e-12)
    assert mutual_information_gap(codes, FACTORS) == pytest.approx(1, abs=1e-12)
    found = disentanglement_completeness_informativeness(codes, FACTORS)
    assert (found.disentanglement, found.completeness) == (pytest.approx(1, abs=1e-9), pytest.approx(1, abs=1e-9))
    assert found.informativeness == 1 and np.allclose(found.importances, np.eye(3))
    assert factor_vae_score(codes, FACTORS) == 1
    assert higgins_score(codes, FACTORS) > 0.995
    assert separated_attribute_predictability(codes, FACTORS) == pytest.approx(
        1 - np.mean(1 / np.array(SIZES)), abs=0.04
    )


@pytest.mark.parametrize("change", [lambda c: 7 * c.flip(1) - 3, lambda c: c**3, lambda c: c[:, [2, 0, 1]]])
def test_scores_of_one_latent_a_factor_do_not_depend_on_order_sign_or_scale(change):
    codes = change(FACTORS.double() + 1)
    assert mutual_information_gap(codes, FACTORS, bins=600) == pytest.approx(1, abs=1e-12)
    assert disentanglement_completeness_informativeness(codes, FACTORS).disentanglement == pytest.approx(1, abs=1e-9)
    assert factor_vae_score(codes, FACTORS) == 1


def test_two_factors_rotated_by_45_degrees_are_not_disentangled():
    codes, factors = rotated()
    assert mutual_information_gap(codes, factors) <= 1e-2
    assert separated_attribute_predictability(codes, factors) < 0.05
    found = disentanglement_completeness_informativeness(codes, factors)
    assert found.disentanglement < 0.05 and found.completeness < 0.05 and found.informativeness > 0.95
    assert factor_vae_score(codes, factors) < 0.55
    slightly = torch.stack([factors[:, 0] + 0.1 * factors[:, 1], factors[:, 1] - 0.1 * factors[:, 0]], 1)
    assert mutual_information_gap(slightly, factors) > 0.5  # the test above would see it


def test_a_latent_that_stands_twice_leaves_no_gap():
    codes = torch.cat([FACTORS, FACTORS], 1).double()
    assert mutual_information_gap(codes, FACTORS) == 0
    assert separated_attribute_predictability(codes, FACTORS) == 0
    found = disentanglement_completeness_informativeness(codes, FACTORS)
    assert found.disentanglement == pytest.approx(1, abs=1e-9) and found.completeness < 0.9
    assert factor_vae_score(codes, FACTORS) == 1


SCORES = {
    "MIG": lambda c, f, seed: mutual_information_gap(c, f),
    "SAP": lambda c, f, seed: separated_attribute_predictability(c, f, seed=seed),
    "DCI": lambda c, f, seed: disentanglement_completeness_informativeness(c, f, trees=8, seed=seed).disentanglement,
    "informativeness": lambda c, f, seed: (
        disentanglement_completeness_informativeness(c, f, trees=8, seed=seed).informativeness
    ),
    "FactorVAE": lambda c, f, seed: factor_vae_score(c, f, seed=seed),
    "Higgins": lambda c, f, seed: higgins_score(c, f, seed=seed),
}


@pytest.mark.parametrize("name", SCORES)
def test_codes_that_know_nothing_score_as_shuffled_ones_do(name):
    codes, factors = independent(1200)
    found = SCORES[name](codes, factors, 0)
    chance = []
    for seed in range(8):
        others = torch.randperm(len(codes), generator=torch.Generator().manual_seed(seed))
        chance.append(SCORES[name](codes, factors[others], seed))
    spread = np.std(chance, ddof=1)
    assert abs(found - np.mean(chance)) < 4 * spread * (1 + 1 / 8) ** 0.5
    known = torch.cat([codes[:, :3], factors.double()], 1)
    assert SCORES[name](known, factors, 0) > np.mean(chance) + 8 * spread  # codes that do are seen


def test_latents_that_no_datum_moves_are_left_out():
    wide = noisy(FACTORS, 6)
    codes = torch.cat([wide[:, :3] + 10 * wide[:, 3:6], 1e10 * wide[:, 6:] ** 7], 1)  # idle but for a few outliers
    assert factor_vae_score(codes, FACTORS) > 0.99 and float(codes[:, 3:].var(0).max()) < 0.01
    assert factor_vae_score(codes, FACTORS, least_variance=0.0) < 0.95  # at times they vary least
    assert factor_vae_score(0.01 * noisy(FACTORS)[:, :2], FACTORS) == 1 / 3
    assert higgins_score(0.01 * noisy(FACTORS)[:, :2], FACTORS) == 1 / 3


@pytest.mark.parametrize("count", [len(FACTORS), 9])
def test_codes_that_are_all_alike_score_zero_and_not_nan(count):
    """Nor do forests find anything in fewer data than a leaf holds."""
    codes = torch.zeros(count, 3) if count > 9 else FACTORS[:count].double()
    found = disentanglement_completeness_informativeness(codes, FACTORS[:count, 1:])
    assert (found.disentanglement, found.completeness) == (0, pytest.approx(0, abs=1e-12))


def test_codes_of_half_precision_are_scored():
    assert mutual_information_gap(FACTORS.bfloat16(), FACTORS) == pytest.approx(1, abs=1e-12)


def test_higgins_score_is_near_one_for_rotated_codes_where_others_are_not():
    """Of more latents than factors: sums and differences of all pairs."""
    a, b, c = FACTORS.double().T
    codes = torch.stack([a + b, a - b, b + c, b - c, a + c, a - c], 1)
    assert higgins_score(codes, FACTORS) > 0.9 and mutual_information_gap(codes, FACTORS) < 0.3


def test_information_and_accuracy_tables_name_the_latent():
    codes = noisy(FACTORS)[:, [4, 0, 1, 2]]
    shares = factor_information(codes, FACTORS) / factor_entropies(FACTORS)
    assert np.allclose(shares[1:], np.eye(3), atol=1e-9) and (shares[0] < 0.1).all()
    assert np.allclose(factor_entropies(FACTORS), np.log(SIZES))
    accuracies = factor_accuracies(codes, FACTORS)
    assert np.allclose(np.diag(accuracies[1:]), 1)


def test_equal_codes_in_all_bins_tell_nothing_and_levels_need_not_begin_at_zero():
    codes = torch.stack([torch.full((len(FACTORS),), 3.0), FACTORS[:, 0].double()], 1)
    assert np.allclose(factor_information(codes, FACTORS)[0], 0)
    assert mutual_information_gap(FACTORS.double(), 5 * FACTORS - 100) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(
    ("codes", "factors", "told"),
    [
        (torch.rand(4), grid(2, 2), "give .N, Z. and .N, F."),
        (torch.rand(5, 2), grid(2, 2), "same N data"),
        (torch.rand(4, 1), grid(2, 2), "there are 1 latents"),
        (torch.rand(4, 2), grid(2, 2)[:, :1], "there are 1 factors"),
        (torch.rand(4, 2), grid(2, 2).double(), "as integers"),
        (torch.rand(4, 2) / 0, grid(2, 2), "not finite"),
        (torch.rand(4, 2), 0 * grid(2, 2), "factor 0 has one level"),
    ],
)
def test_what_cannot_be_scored_is_refused(codes, factors, told):
    with pytest.raises(ValueError, match=told):
        mutual_information_gap(codes, factors)


@pytest.mark.parametrize("score", [factor_vae_score, higgins_score])
def test_a_factor_that_no_two_data_share_cannot_be_held(score):
    factors = torch.stack([torch.arange(20), torch.arange(20) % 2], 1)
    with pytest.raises(ValueError, match="no two data share a level of factor 0"):
        score(torch.rand(20, 2), factors)


def test_a_histogram_needs_bins():
    with pytest.raises(ValueError, match="at least 2 bins"):
        mutual_information_gap(FACTORS.double(), FACTORS, bins=1)
