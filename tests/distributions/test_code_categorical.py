"""Codes drawn by distance: the logits, their temperature, and the nearest code as it falls."""

import pyro.distributions as dist
import pytest
import torch
from torch.distributions import MultivariateNormal, kl_divergence

from pplvm.distributions.code_categorical import CodeCategorical
from pplvm.distributions.nearest_code import NearestCode
from pplvm.particles.categorical_log_prob import is_categorical


def test_it_is_the_posterior_under_a_mixture_of_normals_around_the_codes():
    z, codes, T = torch.randn(5, 3), torch.randn(4, 3), 0.7
    around = torch.stack([MultivariateNormal(e, T * torch.eye(3)).log_prob(z) for e in codes], -1)
    found = CodeCategorical(z, codes, T)
    torch.testing.assert_close(found.probs, around.softmax(-1))
    torch.testing.assert_close(found.logits, around.log_softmax(-1))
    assert is_categorical(found) and not found.has_rsample


def test_it_tends_to_the_nearest_code():
    z, codes = torch.randn(50, 3), torch.randn(8, 3)
    point = NearestCode(z, codes)
    errors = [(CodeCategorical(z, codes, T).probs - point.mean).abs().max() for T in (1.0, 1e-2, 1e-6)]
    assert errors[0] > 0.1 and errors[2] < 1e-9


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shapes_and_what_is_kept_through_expand(dtype):
    z, codes = torch.randn(3, 4, 2, dtype=dtype), torch.randn(6, 2, dtype=dtype)
    T = torch.tensor([0.1, 1.0, 2.0], dtype=dtype)[:, None].requires_grad_()
    fn = CodeCategorical(z, codes, T)
    assert fn.batch_shape == (3, 4) and fn.event_shape == (6,) and fn.logits.dtype is fn.sample().dtype is dtype
    wide = fn.expand([2, 3, 4])
    assert type(wide) is CodeCategorical and wide.z.shape == (2, 3, 4, 2) and wide.codes is codes
    assert wide.temperature.shape == (2, 3, 4) and torch.equal(wide.logits[1], fn.logits)
    assert CodeCategorical(z, codes, 0.5).expand([2, 3, 4]).temperature.shape == ()
    event = fn.to_event(1).expand([5, 3])
    assert event.event_shape == (4, 6) and event.log_prob(event.sample()).shape == (5, 3)
    event.log_prob(event.sample()).sum().backward()
    assert T.grad is not None and T.grad.isfinite().all()
    by_vmap = torch.func.vmap(lambda z: CodeCategorical(z, codes, 0.5).logits)(z)
    torch.testing.assert_close(by_vmap, CodeCategorical(z, codes, 0.5).logits)


def test_its_divergence_is_that_of_categoricals():
    q = CodeCategorical(torch.randn(3, 4, 2), torch.randn(6, 2), 0.3)
    p = dist.OneHotCategorical(logits=torch.randn(4, 6)).to_event(1)
    expected = (q.probs * (q.logits - p.base_dist.logits)).sum((-1, -2))
    torch.testing.assert_close(kl_divergence(q.to_event(1), p.expand([3])), expected)


def test_logits_are_of_single_precision_where_autocast_halves_it():
    z, codes = torch.randn(9, 4).float(), torch.randn(5, 4).float()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(CodeCategorical(z, codes, 0.01).logits, CodeCategorical(z, codes, 0.01).logits.float())
        cast = CodeCategorical(z, codes, 0.01).logits
    torch.testing.assert_close(cast, CodeCategorical(z, codes, 0.01).logits)


@pytest.mark.parametrize("temperature", [0.0, -1.0, torch.tensor(torch.nan)])
def test_a_temperature_is_above_zero(temperature):
    with pytest.raises(ValueError, match="found invalid values"):
        CodeCategorical(torch.zeros(3, 2), torch.randn(4, 2), temperature, validate_args=True)


def test_what_is_no_codebook():
    with pytest.raises(ValueError, match="CodeCategorical: codes are .* got shape"):
        CodeCategorical(torch.zeros(3, 2), torch.zeros(1, 2), 1.0)
