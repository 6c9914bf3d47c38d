"""Uniform codes: the categorical of equal logits, which reads no value."""

import math

import pytest
import torch
from pyro.distributions import OneHotCategorical
from torch.distributions import kl_divergence

from pplvm.distributions.nearest_code import NearestCode
from pplvm.distributions.uniform_code import UniformCode
from pplvm.programs.code_priors import UniformCodePrior


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_is_the_categorical_of_equal_logits(dtype):
    zeros = torch.zeros(3, 4, dtype=dtype)
    for make in (lambda fn: fn, lambda fn: fn.expand([5, 3]), lambda fn: fn.to_event(1), lambda fn: fn.mask(False)):
        ours, plain = make(UniformCode(logits=zeros)), make(OneHotCategorical(logits=zeros))
        assert (ours.batch_shape, ours.event_shape) == (plain.batch_shape, plain.event_shape)
        v = plain.sample((7,))
        found = ours.log_prob(v)
        assert found.dtype == plain.log_prob(v).dtype and torch.equal(found, plain.log_prob(v))
        torch.manual_seed(0), (drawn := ours.sample((2,))), torch.manual_seed(0)
        assert torch.equal(drawn, plain.sample((2,)))
    one = torch.eye(4, dtype=dtype)[0]
    assert torch.equal(UniformCode(logits=zeros).log_prob(one), OneHotCategorical(logits=zeros).log_prob(one))
    with pytest.raises(ValueError, match="support"):
        UniformCode(logits=zeros, validate_args=True).log_prob(torch.full((3, 4), 0.25, dtype=dtype))


def test_divergence_vmap_and_states():
    fn = UniformCodePrior(num_codes=4, grid=(1, 3))()
    assert type(fn.expand([2]).base_dist) is UniformCode
    q = NearestCode(torch.randn(2, 3, 2), torch.randn(4, 2))
    assert torch.allclose(kl_divergence(q, fn.base_dist), torch.tensor(math.log(4)).expand(2, 3))
    v = q.sample()
    assert torch.equal(torch.func.vmap(fn.log_prob)(v), fn.log_prob(v))
    each = fn.base_dist.log_prob(fn.base_dist.enumerate_support())
    assert torch.allclose(each.exp().sum(0), torch.ones(3))


def test_a_density_reads_no_value():
    """The power: any other categorical tells a value of nans from a code."""
    fn = UniformCode(logits=torch.zeros(4), validate_args=False)
    assert torch.equal(fn.log_prob(torch.full((2, 4), math.nan)), torch.full((2,), -math.log(4)))
