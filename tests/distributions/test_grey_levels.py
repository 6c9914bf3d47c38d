"""Grey levels as a support: those of the data, and no others."""

import pytest
import torch
from pyro.distributions import constraints

from pplvm.data.spec import DataSpec, check_site
from pplvm.distributions.grey_levels import GreyLevels
from pplvm.particles.supports import contains


@pytest.mark.parametrize("levels", [2, 17, 256, 65536])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_levels_are_those_of_the_data_and_no_others(levels, dtype):
    values = torch.arange(levels, dtype=dtype) / (levels - 1)
    support = GreyLevels(levels)
    assert support.check(values).all() and support.check(values.float().to(dtype)).all()
    assert not support.check(values + 0.5 / (levels - 1)).any()
    assert not support.check(torch.tensor([-1.0, levels], dtype=dtype) / (levels - 1)).any()
    check_site(DataSpec("digits", 1, (8, 8), levels=levels), "x", "DiscretizedLogistic", support)


def test_data_of_other_levels_are_refused():
    words = "'grey' has 256 grey levels .* whose support is the 17 levels k/16: give the likelihood .* levels=256"
    with pytest.raises(ValueError, match=words):
        check_site(DataSpec("grey", 1, (8, 8), levels=256), "x", "DiscretizedLogistic", GreyLevels(17))


def test_one_number_of_levels_lies_within_itself_alone():
    assert contains(GreyLevels(17), GreyLevels(17)) and not contains(GreyLevels(17), GreyLevels(256))


def test_the_levels_of_a_data_set_are_held_or_refused():
    of_17 = GreyLevels(17)
    check_site(DataSpec("digits", 9, (64,), levels=17), "x", "Floor", constraints.independent(of_17, 1))
    check_site(DataSpec("digits", 9, (64,), levels=2), "x", "Floor", of_17)
    with pytest.raises(ValueError, match="site 'x' is a Floor, whose support is the 17 levels k/16"):
        check_site(DataSpec("mnist", 9, (784,), levels=256), "x", "Floor", of_17)
