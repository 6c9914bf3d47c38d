"""Dreams, reconstructions and what lies between: known decoders give known data."""

from typing import get_args, get_type_hints

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pplvm.evaluation.samples import PATHS, interpolations, prior_samples, reconstructions
from pplvm.particles.contract import ProgramError
from pplvm.programs.mixture import MixtureOfGaussians
from pplvm.programs.vae import VAE
from tests.problems import linear_gaussian, small_net, two_data

X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


class Made(nn.Module):
    """A program of two functions."""

    def __init__(self, model, guide):
        super().__init__()
        self.model, self.guide = model, guide


def plate(x):
    return pyro.plate("batch", len(x))


def normal_guide(x):
    with plate(x):
        pyro.sample("z", dist.Normal(x.flatten(1), 0.5).to_event(1))


class Images(nn.Module):
    """Data of shape (C, H, W) below one latent a row, in a plate nested in the batch; x ~ N(2 z + offset row, 0.1)."""

    shape, offset = (2, 3, 4), 0.0

    def model(self, x):
        with plate(x), pyro.plate("rows", 6, dim=-2):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))  # (6, B)
            z = z + self.offset * torch.arange(6.0).unsqueeze(-1) / 2
            law = dist.Normal(2 * z.unsqueeze(-1).expand(*z.shape, 4), 0.1).to_event(1)
            pyro.sample("x", law, obs=x.reshape(len(x), 6, 4).transpose(0, 1))

    def guide(self, x):
        with plate(x), pyro.plate("rows", 6, dim=-2):
            pyro.sample("z", dist.Normal(x.reshape(len(x), 6, 4).mean(-1).T / 2, 1e-6))


def test_dreams_have_the_models_moments():
    program = linear_gaussian()
    found = prior_samples(program, X[:1], 4000)
    W, b = program.weight.detach(), program.bias.detach()
    for values, covariance in ((found.mean, W @ W.T), (found.draw, W @ W.T + program.s**2 * torch.eye(3))):
        assert values.shape == (4000, 3)
        error = (covariance.diagonal() / 4000).sqrt()
        assert ((values.mean(0) - b) / error).abs().max() < 4.5
        spread = values.T.cov()
        both = covariance.diagonal()[:, None] * covariance.diagonal() + covariance.square()
        assert ((spread - covariance) / (both / 4000).sqrt()).abs().max() < 4.5
    residual = (found.draw - found.mean) / program.s
    assert abs(residual.square().mean() - 1) < 4.5 * (2 / residual.numel()) ** 0.5


def test_dreams_do_not_look_at_the_datum_but_take_its_shape():
    net = small_net((2, 3), 4)
    ones, zeros = (prior_samples(net, torch.full((1, 2, 2), v), 7, seed=3) for v in (1.0, 0.0))
    assert torch.equal(ones.mean, zeros.mean) and torch.equal(ones.draw, zeros.draw)
    assert ones.draw.shape == (7, 2, 2) and set(ones.draw.flatten().tolist()) <= {0.0, 1.0}
    assert not torch.equal(ones.draw, prior_samples(net, zeros.draw[:1], 7, seed=4).draw)


def test_rows_of_a_nested_plate_come_back_in_the_shape_of_the_data():
    x = (
        torch.arange(24.0).reshape(1, *Images.shape).repeat(2, 1, 1, 1)
        + torch.tensor([0.0, 100.0])[:, None, None, None]
    )
    found = reconstructions(Images(), x)
    assert found.shape == x.shape
    torch.testing.assert_close(found, x.mean(-1, keepdim=True).expand_as(x), rtol=0, atol=1e-4)
    program = Images()
    program.offset = 1000.0
    rows = prior_samples(program, x[:1], 5).draw.reshape(5, 6, 4)
    torch.testing.assert_close((rows / 1000).round(), torch.arange(6.0)[:, None].expand(5, 6, 4))


def test_a_known_decoder_gives_the_known_reconstruction():
    program = linear_gaussian().at_posterior()
    with torch.no_grad():
        program.log_scale.fill_(-40.0)
    expected = program.encoder(X) @ program.weight.T + program.bias
    torch.testing.assert_close(reconstructions(program, X), expected.detach(), rtol=0, atol=1e-9)


def test_reconstructions_are_drawn_and_do_not_depend_on_company():
    vae = VAE(6, 2, (5,))
    x = torch.tril(torch.ones(5, 6))  # no two alike
    found = reconstructions(vae, x, seed=1)
    assert torch.equal(found, reconstructions(vae, x, seed=1))
    assert torch.equal(found.flip(0)[:2], reconstructions(vae, x.flip(0)[:2], seed=1))
    assert not torch.equal(found, reconstructions(vae, x, seed=2))


def test_modes_gradients_and_random_state_come_back():
    vae = VAE(6, 2, (5,))
    vae.decoder.eval()
    x, state = torch.rand(2, 6).round(), torch.get_rng_state()
    made = [prior_samples(vae, x[:1], 2).mean, reconstructions(vae, x), interpolations(vae, x, x.flip(0), 3)]
    assert not any(m.requires_grad for m in made)
    assert vae.training and vae.encoder.training and not vae.decoder.training
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("how", ["linear", "spherical"])
def test_a_path_ends_at_the_means_and_is_the_path_of_the_latents(how):
    program = linear_gaussian().at_posterior()
    found = interpolations(program, X[:2], X[2:], 5, how)
    assert found.shape == (2, 5, 3)
    ends = [(program.encoder(x) @ program.weight.T + program.bias).detach() for x in (X[:2], X[2:])]
    torch.testing.assert_close(found[:, 0], ends[0])
    torch.testing.assert_close(found[:, -1], ends[1])
    midway = torch.allclose(found[:, 2], (ends[0] + ends[1]) / 2)
    assert midway == (how == "linear")


def test_the_annotation_names_the_paths_that_there_are():
    assert set(get_args(get_type_hints(interpolations)["how"])) == set(PATHS)


def test_a_paths_rows_do_not_depend_on_each_other():
    net = small_net((3, 3), 3)
    x = torch.cat([two_data(), 1 - two_data()])
    found = interpolations(net, x[:3], x[1:], 4, seed=5)
    assert torch.equal(found[1:], interpolations(net, x[1:3], x[2:], 4, seed=5))


def test_bits_step_over_one_after_another():
    seen = []

    def model(x):
        with plate(x):
            z = pyro.sample("z", dist.Bernoulli(0.5 * torch.ones(4)).to_event(1))
            seen.append(z[0].tolist())
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    def guide(x):
        with plate(x):
            pyro.sample("z", dist.Bernoulli(x).to_event(1))

    x = torch.tensor([[0.0, 0.0, 1.0, 1.0], [1.0, 1.0, 1.0, 0.0]])
    found = interpolations(Made(model, guide), x[:1], x[1:], 4)[0]
    assert found.tolist() == [[0, 0, 1, 1], [1, 0, 1, 1], [1, 1, 1, 1], [1, 1, 1, 0]]


def test_one_site_alone_goes_and_what_it_draws_follows():
    """z ~ N, w ~ N(10 z, 1), v ~ N(5, 1) apart; x = (z, w, v)."""

    def model(x):
        with plate(x):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            w = pyro.sample("w", dist.Normal(10 * z, 1.0))
            v = pyro.sample("v", dist.Normal(5.0, 1.0))
            pyro.sample("x", dist.Normal(torch.stack([z, w, v], -1), 1.0).to_event(1), obs=x)

    def guide(x):
        with plate(x):
            for i, name in enumerate("zwv"):
                pyro.sample(name, dist.Normal(x[:, i], 0.1))

    program, x = Made(model, guide), torch.tensor([[1.0, 2.0, 3.0], [2.0, 7.0, 8.0]])
    start, end = x.split(1)
    assert interpolations(program, start, end, 3)[0].tolist() == [[1, 2, 3], [1.5, 4.5, 5.5], [2, 7, 8]]
    assert interpolations(program, start, end, 3, site="z")[0].tolist() == [[1, 10, 3], [1.5, 15, 3], [2, 20, 3]]
    assert interpolations(program, start, end, 3, site="w")[0].tolist() == [[1, 2, 3], [1, 4.5, 3], [1, 7, 3]]
    with pytest.raises(ValueError, match="no latent 'y': take one of 'z', 'w', 'v'"):
        interpolations(program, start, end, 3, site="y")


class MeanWithin(dist.ProjectedNormal):
    """Whose mean lies within the sphere, as a mean does, and so outside the support."""

    @property
    def mean(self):
        return super().mean / 2


@pytest.mark.parametrize("law", [dist.ProjectedNormal, MeanWithin])
def test_a_path_that_leaves_its_support_is_refused(law):
    def model(x):
        with plate(x):
            z = pyro.sample("z", dist.ProjectedNormal(torch.tensor([1.0, 0.0])))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    def guide(x):
        with plate(x):
            pyro.sample("z", law(100 * x))

    program, x = Made(model, guide), torch.eye(2)
    with pytest.raises(ValueError, match="linear path of site 'z' leaves its support Sphere: use how='spherical'"):
        interpolations(program, x[:1], x[1:], 3)
    found = interpolations(program, x[:1], x[1:], 3, "spherical")[0]
    torch.testing.assert_close(found.norm(dim=1), torch.ones(3))


def test_a_likelihood_without_mean_is_averaged_over_draws():
    class Meanless(dist.Normal):
        @property
        def mean(self):
            raise NotImplementedError

    def model(x):
        with plate(x):
            z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
            pyro.sample("x", Meanless(z, 1.0).to_event(1), obs=x)

    found = interpolations(Made(model, normal_guide), X[:1], X[1:2], 2)
    assert ((found[0] - X[:2]) / 0.1).abs().max() < 4.5


def test_integer_data_keep_their_kind_and_their_means_do_not():
    def model(x):
        with plate(x):
            rate = pyro.sample("z", dist.Normal(torch.zeros(3), 0.1).to_event(1)).exp()
            pyro.sample("x", dist.Poisson(rate).to_event(1), obs=x)

    def guide(x):
        with plate(x):
            pyro.sample("z", dist.Normal(x / 2, 0.5).to_event(1))

    found = prior_samples(Made(model, guide), torch.tensor([[1, 2, 0]]), 6)
    assert found.draw.dtype == torch.int64 and (found.mean % 1 != 0).all()


def test_a_mixtures_latent_is_a_number():
    program = MixtureOfGaussians(2, 3)
    found = interpolations(program, X[:1, :2], X[1:2, :2], 3)
    means = program.locs.detach()
    assert all(any(torch.allclose(image, mean) for mean in means) for image in found[0])


def test_of_several_observed_sites_the_one_that_is_the_data_is_taken():
    def model(x):
        with plate(x):
            z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
            pyro.sample("total", dist.Normal(z.sum(-1), 1.0), obs=x.sum(-1))
            pyro.sample("shifted", dist.Normal(z, 1.0).to_event(1), obs=x + 1)
            pyro.sample("x", dist.Normal(7 + 0 * z, 1.0).to_event(1), obs=x)

    assert torch.equal(reconstructions(Made(model, normal_guide), X), torch.full((4, 3), 7.0))


@pytest.mark.parametrize(
    ("shift", "twice", "told"), [(1.0, False, "'x', of which none hold"), (0.0, True, "which 2 hold")]
)
def test_no_site_and_two_sites_of_the_data_are_refused(shift, twice, told):
    def model(x):
        with plate(x):
            z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
            for name in ("x", "y")[: 1 + twice]:
                pyro.sample(name, dist.Normal(z, 1.0).to_event(1), obs=x + shift)

    with pytest.raises(ProgramError, match=told):
        prior_samples(Made(model, normal_guide), X[:1], 2)


def test_a_model_that_reads_its_data_is_refused():
    def model(x):
        with plate(x):
            z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
            before = nn.functional.pad(x[:, :-1], (1, 0))
            pyro.sample("x", dist.Normal(z + before, 1.0).to_event(1), obs=x)

    for make in (lambda p: prior_samples(p, X[:1], 2), lambda p: reconstructions(p, X)):
        with pytest.raises(ProgramError, match="the model reads the data before it draws site 'x'"):
            make(Made(model, normal_guide))


def test_what_is_no_number_of_pictures_is_refused():
    vae = VAE(3, 2, (5,))
    x = torch.ones(2, 3)
    with pytest.raises(ValueError, match="count must be at least 1, got 0"):
        prior_samples(vae, x[:1], 0)
    with pytest.raises(ValueError, match="steps must be at least 2"):
        interpolations(vae, x, x, 1)
    with pytest.raises(ValueError, match="'round', which is not among 'linear', 'spherical'"):
        interpolations(vae, x, x, 3, "round")
    with pytest.raises(ValueError, match=r"\(2, 3\) and \(1, 3\): give as many"):
        interpolations(vae, x, x[:1], 3)
