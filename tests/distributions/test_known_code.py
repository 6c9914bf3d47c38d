"""KnownCode and KnownDensity: a point at a one-hot, and a density that was computed before."""

import pytest
import torch
from torch.nn.functional import one_hot

from pplvm.distributions.known_code import KnownCode
from pplvm.distributions.known_density import KnownDensity
from pplvm.distributions.nearest_code import NearestCode
from pplvm.particles.point_masses import is_point
from pplvm.particles.reparameterized_sites import is_reparameterized


def test_it_is_the_nearest_code_of_a_vector_that_is_one():
    codes, index = torch.randn(5, 3), torch.tensor([[4, 0], [2, 2]])
    nearest, known = NearestCode(codes[index], codes), KnownCode(index, 5)
    for value in (nearest.sample(), one_hot(index.roll(1, 0), 5).double()):
        assert torch.equal(known.log_prob(value), nearest.log_prob(value))
    for fn in (known, known.to_event(1), known.expand((3, 2, 2))):
        assert is_point(fn) and fn.has_rsample and not is_reparameterized(fn)
    assert torch.equal(known.rsample((3,)), nearest.sample((3,)))
    assert torch.equal(known.mean, nearest.mean) and torch.equal(known.mode, known.mean)
    assert known.support.check(known.sample()).all() and not known.variance.any() and not known.entropy().any()
    assert torch.equal(known.enumerate_support(), nearest.enumerate_support())
    assert known.expand((3, 2, 2)).log_prob(known.sample()).shape == (3, 2, 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_its_values_have_a_dtype(dtype):
    known = KnownCode(torch.tensor([1]), 3, dtype)
    assert known.sample().dtype is known.log_prob(known.sample()).dtype is known.entropy().dtype is dtype


def test_one_code_is_refused():
    with pytest.raises(ValueError, match="num_codes must be at least 2, got 1"):
        KnownCode(torch.tensor([0]), 1)


def test_a_density_is_told_whatever_stands_for_the_datum():
    fn = KnownDensity(torch.tensor([-3.0, -4.0]))
    assert torch.equal(fn.log_prob(torch.zeros(2)), fn.log_density)
    assert torch.equal(fn.expand((5, 2)).log_prob(torch.ones(5, 2)), fn.log_density.expand(5, 2))
    assert fn.log_prob(torch.zeros(7, 1)).shape == (7, 2)
