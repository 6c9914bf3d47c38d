"""Floor: the point mass at a whole part, and what it is in a program, a data set and bits per dimension."""

import pytest
import torch
from torch.distributions import constraints

from pplvm.data.spec import DataSpec, check_site
from pplvm.distributions.floor import Floor
from pplvm.distributions.grey_levels import GreyLevels
from pplvm.particles.factors import unnormalised
from pplvm.particles.point_masses import has_log_density, is_point


def test_all_mass_is_at_the_whole_part():
    v = torch.tensor([0.0, 0.999, 1.0, 3.5, 4.999])
    fn = Floor(v, levels=5)
    each = fn.log_prob(torch.arange(5.0)[:, None] / 4)
    assert torch.equal(each.exp(), torch.nn.functional.one_hot(torch.tensor([0, 0, 1, 3, 4])).double().T)
    assert torch.equal(fn.sample(), torch.tensor([0, 0, 1, 3, 4]) / 4) and torch.equal(fn.mean, fn.sample())
    assert torch.equal(fn.variance, torch.zeros(5)) and fn.sample((2, 3)).shape == (2, 3, 5)


def test_all_256_levels_of_float32_are_found():
    k = torch.arange(256, dtype=torch.float32)
    for u in (0.0, 0.5, 1 - 2.0**-15):
        fn = Floor(k + u, levels=256)
        assert torch.equal(fn.log_prob(k / 255), torch.zeros(256, dtype=torch.float32))
        assert torch.equal(fn.log_prob((k / 255).flip(0)), torch.full((256,), -torch.inf, dtype=torch.float32))
    assert fn.support.check(k / 255).all() and fn.mean.dtype is torch.float32


def test_shapes():
    fn = Floor(torch.rand(3, 4) * 5, levels=5)
    assert fn.batch_shape == (3, 4) and fn.event_shape == ()
    wide = fn.to_event(1).expand([2, 3])
    assert wide.batch_shape == (2, 3) and wide.event_shape == (4,)
    assert wide.log_prob(fn.mean).shape == (2, 3) and (wide.log_prob(fn.mean) == 0).all()
    assert torch.equal(torch.func.vmap(lambda v, x: Floor(v, 5).log_prob(x))(fn.value, fn.mean), torch.zeros(3, 4))


def test_it_is_a_point_mass_and_a_probability():
    fn = Floor(torch.rand(3, 4), levels=2).to_event(1)
    assert is_point(fn) and not has_log_density(fn) and fn.support.is_discrete and not fn.has_rsample
    assert unnormalised({"x": {"fn": fn}}, {}) == ""


@pytest.mark.parametrize("levels", [17, 256, 65536])
def test_levels_stored_in_single_precision_are_levels_of_a_program_in_double(levels):
    of_data = (torch.arange(levels, dtype=torch.float32) / (levels - 1)).double()
    fn = Floor(torch.arange(levels, dtype=torch.float64) + 0.5, levels, validate_args=True)
    assert (fn.log_prob(of_data) == 0).all()


def test_the_levels_of_a_data_set_are_held_or_refused():
    of_17 = GreyLevels(17)
    check_site(DataSpec("digits", 9, (64,), levels=17), "x", "Floor", constraints.independent(of_17, 1))
    check_site(DataSpec("digits", 9, (64,), levels=2), "x", "Floor", of_17)
    with pytest.raises(ValueError, match="site 'x' is a Floor, whose support is the 17 levels k/16"):
        check_site(DataSpec("mnist", 9, (784,), levels=256), "x", "Floor", of_17)


def test_values_between_levels_are_refused():
    with pytest.raises(ValueError, match="the 5 levels k/4"):
        Floor(torch.zeros(2), levels=5).log_prob(torch.tensor([0.25, 0.3]))


@pytest.mark.parametrize("levels", [1, 0, True, 2.5])
def test_levels_are_a_number_of_them(levels):
    with pytest.raises(ValueError, match="Floor: levels must be an integer of at least 2, .* got"):
        Floor(torch.zeros(2), levels)
