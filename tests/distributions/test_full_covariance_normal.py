"""The KL of a normal of full covariance from independent normals, beside torch's of two multivariate normals."""

import pyro.distributions as dist
import pytest
import torch
from torch.distributions import kl_divergence

from pplvm.distributions.full_covariance_normal import FullCovarianceNormal


def full(batch=(5,), Z=3):
    factor = torch.randn(*batch, Z, Z).tril(-1) + torch.rand(*batch, Z).add(0.3).diag_embed()
    return FullCovarianceNormal(torch.randn(*batch, Z), scale_tril=factor)


def test_the_divergence_is_torchs():
    q, loc, scale = full(), torch.randn(3), torch.rand(5, 3) + 0.2
    found = kl_divergence(q, dist.Normal(loc, scale).to_event(1))
    expected = kl_divergence(q, dist.MultivariateNormal(loc.expand(5, 3), scale_tril=scale.diag_embed()))
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-12)
    for other in (dist.Laplace(loc, scale).to_event(1), dist.Normal(torch.zeros(2, 3), 1.0).to_event(2)):
        with pytest.raises(NotImplementedError):
            kl_divergence(q, other)


def test_it_stays_itself_expanded_in_either_precision_and_mapped_over():
    q = full((3,))
    assert type(q.expand((4, 3))) is FullCovarianceNormal and q.expand((4, 3)).rsample((2,)).shape == (2, 4, 3, 3)
    single = FullCovarianceNormal(torch.zeros(3).float(), scale_tril=torch.eye(3).float())
    prior = dist.Normal(torch.zeros(3).float(), torch.ones(3).float()).to_event(1)
    assert single.rsample().dtype is kl_divergence(single, prior).dtype is torch.float32
    values = torch.randn(6, 3)
    of = lambda v, m: FullCovarianceNormal(m, scale_tril=q.scale_tril[0], validate_args=False).log_prob(v)
    torch.testing.assert_close(torch.func.vmap(of, (0, None))(values, q.loc[0]), of(values, q.loc[0]))


@pytest.mark.parametrize("of_q, of_p", [(3, 1), (1, 3)])
def test_normals_of_another_event_shape_have_no_divergence_that_is_broadcast(of_q, of_p):
    q = FullCovarianceNormal(torch.zeros(of_q), scale_tril=torch.eye(of_q))
    with pytest.raises(NotImplementedError):
        kl_divergence(q, dist.Normal(torch.zeros(of_p), 1.0).to_event(1))
