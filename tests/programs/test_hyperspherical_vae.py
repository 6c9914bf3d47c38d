"""The VAE on the sphere: its rate is known before training, the same for all data; evaluation knows the sphere."""

import pytest
import torch
from torch.distributions import kl_divergence

from pplvm.bounds import elbo, iwae
from pplvm.distributions.power_spherical import PowerSpherical
from pplvm.distributions.spherical_uniform import SphericalUniform
from pplvm.distributions.von_mises_fisher import VonMisesFisher
from pplvm.evaluation.active_units import active_units
from pplvm.evaluation.annealing.annealed import annealed
from pplvm.evaluation.annealing.bidirectional import bidirectional
from pplvm.evaluation.decoding import posterior
from pplvm.evaluation.likelihood import importance_sampled
from pplvm.evaluation.per_datum import evaluation_mode
from pplvm.evaluation.rate_distortion import rate_distortion
from pplvm.evaluation.samples import interpolations, prior_samples, reconstructions
from pplvm.evaluation.traversals import traversals
from pplvm.graphs.compiled import compiled
from pplvm.objectives.objective import Loss
from pplvm.objectives.pathwise import AnalyticKL, Pathwise
from pplvm.particles.contract import ProgramError
from pplvm.programs.hyperspherical_vae import HypersphericalVAE

D = 6


def binary(count=4):
    return torch.bernoulli(torch.full((count, D), 0.5))


def of(dim=4, **options):
    return HypersphericalVAE(D, dim, (5,), **options)


@pytest.mark.parametrize(
    ("dim", "family"), [(2, PowerSpherical), (4, PowerSpherical), (3, PowerSpherical), (3, VonMisesFisher)]
)
@pytest.mark.parametrize("kappa", [0.5, 20.0])
def test_the_rate_is_known_before_training_and_without_spread(dim, family, kappa):
    program = of(dim, concentration=kappa, posterior=family)
    found = rate_distortion(program, binary(8), num_particles=2)
    assert found.closed == ("z",)
    assert found.rate.std() < 1e-13
    assert found.rate[0].item() == pytest.approx(program.rate, abs=1e-10)
    north = torch.eye(dim)[0]
    drawn = kl_divergence(family(north, torch.tensor(kappa)), SphericalUniform(dim))
    assert drawn.item() == pytest.approx(program.rate, abs=1e-12)


def test_a_learned_concentration_has_a_rate_of_each_datum():
    program = of(concentration=None)
    assert program.rate is None
    torch.nn.init.normal_(program.encoder.network.last.weight, std=3)
    rates = rate_distortion(program, binary(8), num_particles=2).rate
    assert rates.std() > 1e-3 and (rates > 0).all()
    Loss(AnalyticKL(), program)(binary()).backward()
    assert program.encoder.network.last.bias.grad[-1] != 0


def test_a_fixed_concentration_is_not_trained():
    program = of(concentration=20.0)
    loss = Loss(AnalyticKL(), program)
    loss(binary()).backward()
    assert program.rate == of(concentration=20.0).rate


@pytest.mark.parametrize("objective", [Pathwise(elbo, 2), Pathwise(iwae, 3), AnalyticKL(2)])
@pytest.mark.parametrize(("dim", "family"), [(4, PowerSpherical), (3, VonMisesFisher)])
def test_one_graph_gives_the_eager_values(objective, dim, family):
    program, x = of(dim, posterior=family), binary()
    loss = Loss(objective, program)
    found = []
    for each in (loss, compiled(loss, "graph")):
        for _ in range(2):
            program.zero_grad()
            torch.manual_seed(3)
            value = each(x)
            value.backward()
        found.append([value.detach(), *(p.grad.clone() for p in program.parameters())])
    for eager, graph in zip(*found, strict=True):
        torch.testing.assert_close(eager, graph)


def test_grey_data():
    program, x = of(likelihood="discretized-logistic", levels=17), torch.rand(4, D).mul(16).round() / 16
    value = Loss(Pathwise(iwae, 2), program)(x)
    value.backward()
    assert value.isfinite()
    assert prior_samples(program, x[:1], 3).draw.mul(16).frac().abs().max() < 1e-12


def test_a_datum_lies_at_its_mode_and_not_at_a_draw():
    program, x = of(concentration=5.0), binary(1)
    with evaluation_mode(program, x) as pair:
        z = posterior(pair, x)["z"]["value"]
    torch.testing.assert_close(z, program.encoder(x).mode, atol=1e-12, rtol=0)


def test_interpolations_go_along_the_sphere():
    program, x = of(), binary(4)
    found = interpolations(program, x[:2], x[2:], 5, how="spherical")
    ends = torch.stack([program.likelihood(program.decoder(program.encoder(x).mode)).mean[i] for i in (0, 2)])
    torch.testing.assert_close(found[0, [0, -1]], ends)
    with pytest.raises(ValueError, match="the linear path of site 'z' leaves its support .* use how='spherical'"):
        interpolations(program, x[:2], x[2:], 5)


def test_no_coordinate_of_a_sphere_moves_alone():
    with pytest.raises(ValueError, match="'z' lies on a sphere, of which no coordinate moves alone: use interp"):
        traversals(of(), binary(1), "z", [0])


def test_active_units_are_those_of_posterior_means():
    program, x = of(concentration=20.0), binary(8)
    found = active_units(program, x)
    assert found.analytic["z"]
    torch.testing.assert_close(found.means["z"], program.encoder(x).mean)
    assert reconstructions(program, x).shape == x.shape


@pytest.mark.parametrize("start", ["guide", "prior"])
def test_chains_are_refused_on_a_sphere(start):
    with pytest.raises(ProgramError, match="neither finite nor on a support with a bijection from the reals"):
        annealed(of(), binary(1), chains=2, steps=2, start=start)
    with pytest.raises(ProgramError, match="neither finite nor on a support with a bijection from the reals"):
        bidirectional(of(), binary(1), data=1, chains=2, steps=2, start=start)


def test_the_likelihood_is_that_of_quadrature():
    """On the circle, log p(x) by the midpoint rule over the angle."""
    program, x = of(2, concentration=2.0), binary(3)
    torch.nn.init.normal_(program.decoder.last.weight)
    angle = (torch.arange(2000) + 0.5) * 2 * torch.pi / 2000
    z = torch.stack([angle.cos(), angle.sin()], 1)
    truth = program.likelihood(program.decoder(z)).log_prob(x[:, None]).logsumexp(1) - torch.tensor(2000.0).log()
    found = {figure.name: figure for figure in importance_sampled(program, x, ks=[5000]).figures}
    assert (found["log p(x), k = 5000"].value - truth.mean()).abs() < 0.03


def test_what_it_refuses():
    for kappa in (0, 0.0, -1.0):
        with pytest.raises(ValueError, match="concentration .kappa. must be positive, got .* give None to learn it"):
            of(concentration=kappa)
    for dim, told in ((1, "at least 2 coordinates, got 1"), (0, "latent_size must be an integer of at least 1, got 0")):
        with pytest.raises(ValueError, match=told):
            of(dim)
    with pytest.raises(ValueError, match="must have 3 coordinates, .* got 4: use PowerSpherical"):
        of(4, posterior=VonMisesFisher)
    with pytest.raises(ValueError, match="a class such as PowerSpherical or VonMisesFisher, got 'vmf'"):
        of(posterior="vmf")
    with pytest.raises(ValueError, match="likelihood must be"):
        of(likelihood="beta")
    with pytest.raises(ValueError, match="levels is not known"):
        of(likelihood="discretized-logistic")
