"""Active units of programs whose dead units are known; noise of the draws is not taken for activity."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from pplvm.evaluation.active_units import active_units
from pplvm.programs.mixture import MixtureOfGaussians
from pplvm.programs.vae import VAE
from tests.problems import small_net


def half_dead(program_type: type[VAE] = VAE) -> VAE:
    """Posterior means x_0, x_1 / 2, 0.05 x_2 and 3, over unit variances."""
    program = program_type(3, 4, (), "gaussian")
    with torch.no_grad():
        program.encoder.last.weight.zero_()
        program.encoder.last.bias.zero_()
        program.encoder.last.weight[0, 0], program.encoder.last.weight[1, 1] = 1.0, 0.5
        program.encoder.last.weight[2, 2], program.encoder.last.bias[3] = 0.05, 3.0
    return program


class ByDraws(VAE):
    """The same with a site that does not know its mean."""

    def guide(self, x):
        loc, log_scale = self.encoder(x.flatten(1)).chunk(2, dim=-1)
        still = dist.transforms.AffineTransform(0.0, 1.0)
        with pyro.plate("batch", len(x)):
            pyro.sample("z", dist.TransformedDistribution(dist.Normal(loc, log_scale.exp()), [still]).to_event(1))


def test_known_dead_units():
    x = torch.randn(50, 3)
    found = active_units(half_dead(), x)
    truth = torch.stack([x[:, 0], x[:, 1] / 2, 0.05 * x[:, 2], torch.full((50,), 3.0)], 1)
    assert found.analytic == {"z": True}
    torch.testing.assert_close(found.means["z"], truth)
    torch.testing.assert_close(found.variances["z"], truth.var(0))
    assert found.counts == {"z": 2}
    assert active_units(half_dead(), x, threshold=1e-4).counts == {"z": 3}
    (figure,) = found.figures
    assert (figure.name, figure.value, figure.unit) == ("active units of z", 2, "units")
    assert figure.note == "of 4; variance of posterior means above 0.01 over 50 data; means analytic"


def test_noise_of_the_draws_is_not_activity():
    """Means of 40 draws of unit variance vary by 0.025 where no datum moves them: a naive count has all 4 units."""
    x = torch.randn(400, 3)
    found = active_units(half_dead(ByDraws), x, num_particles=40)
    assert found.analytic == {"z": False}
    assert (found.means["z"].var(0) > 0.01).all()
    assert found.counts == {"z": 2}
    truth = torch.tensor([1.0, 0.25, 0.0025, 0.0]) * torch.cat([x.var(0), torch.zeros(1)])
    gap = found.variances["z"] - truth
    assert (gap.abs() < 5 * torch.tensor([0.3, 0.2, 0.05, 0.05]) / 400**0.5).all()  # (1/20 + twice the signal) a datum
    assert "by 40 draws, their noise taken out" in found.figures[0].note


def test_a_layer_above_a_dead_one_is_dead_whatever_its_draws():
    net, x = small_net((2, 3), 20), (torch.rand(300, 20) < 0.5).double()
    with torch.no_grad():
        net.encoders[1].last.weight.zero_()
        net.encoders[1].last.bias.zero_()
        net.encoders[0].last.weight.copy_(torch.full((2, 3), 2.0))
    found = active_units(net, x, num_particles=4)
    assert found.analytic == {"z_2": True, "z_1": False}
    assert (found.means["z_1"].var(0) > 0.01).all() and found.counts == {"z_2": 0, "z_1": 0}
    assert [figure.name for figure in found.figures] == ["active units of z_2", "active units of z_1", "active units"]


def test_bernoulli_means_are_probabilities_and_categoricals_have_one_a_state():
    net, x = small_net((3,)), torch.eye(3)
    logits = net.encoders[0](x - net.centre)
    torch.testing.assert_close(active_units(net, x).means["z_1"], logits.sigmoid().detach())
    mixture, x = MixtureOfGaussians(2, 3), torch.randn(6, 2)
    torch.testing.assert_close(active_units(mixture, x).means["z"], mixture.classifier(x).softmax(1).detach())


def test_a_single_datum_has_no_variance_and_shards_join():
    program, x = half_dead(ByDraws), torch.randn(5, 3)
    whole, one = active_units(program, x), active_units(program, x[:1])
    assert torch.equal(whole.first["z"][:1], one.first["z"]) and torch.equal(whole.second["z"][:1], one.second["z"])
    with pytest.raises(ValueError, match="at least two data"):
        _ = one.counts


def test_what_is_no_number_names_datum_and_site():
    with pytest.raises(FloatingPointError, match="datum 1: the posterior mean of site 'z' is infinite"):
        active_units(half_dead(), torch.tensor([[0.0, 0.0, 0.0], [torch.nan, 0.0, 0.0]]))


@pytest.mark.parametrize("draws", [0, 1, 7])
def test_draws_must_halve(draws):
    with pytest.raises(ValueError, match=f"even and at least 2, got {draws}"):
        active_units(half_dead(), torch.zeros(2, 3), num_particles=draws)
