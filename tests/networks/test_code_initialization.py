"""Where codes start: at different rows of the data, or at centres of clusters, alike from one generator."""

import pytest
import torch
from sklearn.cluster import KMeans

from pplvm.networks.code_initialization import codes_from_rows, k_means_codes


def seeded(seed=1):
    return torch.Generator().manual_seed(seed)


def clusters(K=6, each=40):
    centres = 10 * torch.randn(K, 3, generator=seeded(0))
    return centres, (centres[:, None] + 0.1 * torch.randn(K, each, 3, generator=seeded(2)))


def test_rows_are_different_rows_of_the_data():
    z = torch.randn(5, 4, 2, generator=seeded())
    z[1:3] = z[0]
    codes = codes_from_rows(z, 12, seeded())  # as many as there are
    assert torch.cdist(codes, z.reshape(-1, 2)).min(-1).values.max() == 0
    assert len(torch.unique(codes, dim=0)) == 12
    assert torch.equal(codes, codes_from_rows(z, 12, seeded())) and not torch.equal(
        codes, codes_from_rows(z, 12, seeded(5))
    )


def test_k_means_finds_clusters_that_lie_apart():
    """From any start: k-means++ never begins twice in one of them, as rows drawn at random do."""
    centres, z = clusters()
    for seed in range(5):
        codes = k_means_codes(z, len(centres), seeded(seed))
        assert torch.cdist(z.mean(1), codes).min(-1).values.max() < 1e-9
    assert torch.equal(codes, k_means_codes(z, len(centres), seeded(4)))
    missed = [torch.cdist(centres, codes_from_rows(z, 6, seeded(s))).min(-1).values.max() > 1 for s in range(5)]
    assert any(missed)


def test_k_means_is_as_good_as_that_of_scikit_learn():
    z = torch.randn(400, 2, generator=seeded())
    own = torch.cdist(z, k_means_codes(z, 16, seeded(), iterations=100)).min(-1).values.square().sum()
    best = KMeans(16, n_init=1, random_state=0).fit(z.numpy()).inertia_
    assert own < 1.15 * best


@pytest.mark.parametrize("start", [codes_from_rows, k_means_codes])
def test_more_codes_than_data_are_refused_in_a_sentence(start):
    z = torch.randn(3, 2).repeat(4, 1)
    with pytest.raises(ValueError, match="^5 codes cannot start at the data, which give 3 different vectors"):
        start(z, 5)
