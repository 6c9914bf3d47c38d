"""An order and a time are drawn alike by model and guide, whatever wraps them; a normal says nothing of it."""

import pyro.distributions as dist
import torch

from pplvm.distributions.low_discrepancy_integer import LowDiscrepancyInteger
from pplvm.distributions.low_discrepancy_uniform import LowDiscrepancyUniform
from pplvm.distributions.uniform_permutation import UniformPermutation
from pplvm.particles.drawn_alike import is_drawn_alike


def test_what_says_so_within_any_wrapper():
    for fn in (UniformPermutation(3), LowDiscrepancyInteger(3), LowDiscrepancyUniform(torch.zeros(()), 1.0)):
        assert is_drawn_alike(fn) and is_drawn_alike(fn.expand((4,)).to_event(1).mask(True))
    assert not is_drawn_alike(dist.Normal(0.0, 1.0).expand((4,)).to_event(1))
