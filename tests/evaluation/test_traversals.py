"""One unit moved: that one, over the values told, and what it draws with it."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from pplvm.evaluation.traversals import traversals
from pplvm.programs.mixture import MixtureOfGaussians
from pplvm.programs.vae import VAE
from tests.evaluation.test_samples import Images, Made, plate
from tests.problems import linear_gaussian, small_net

X = torch.tensor([[0.3, -0.2, 0.9]], dtype=torch.float64)


def program_of(law, at):
    """z ~ law, x ~ N(z, 1) with z flattened, q(z | x) a point mass."""

    def model(x):
        with plate(x):
            z = pyro.sample("z", law)
            pyro.sample("x", dist.Normal(z.reshape(len(x), -1).to(x.dtype), 1.0).to_event(1), obs=x)

    def guide(x):
        with plate(x):
            pyro.sample("z", dist.Delta(at.expand(len(x), *at.shape), event_dim=at.dim()))

    return Made(model, guide)


def test_only_the_unit_named_is_moved():
    program = linear_gaussian().at_posterior()
    found = traversals(program, X, "z", [1, 0], [-2.0, 0.5])
    assert found.images.shape == (2, 2, 3) and found.values.tolist() == [[-2.0, 0.5]] * 2
    base = program.encoder(X)[0].detach()
    for u, unit in enumerate([1, 0]):
        for v, value in enumerate([-2.0, 0.5]):
            z = base.clone()
            z[unit] = value
            expected = (z @ program.weight.T + program.bias).detach()
            torch.testing.assert_close(found.images[u, v], expected)


def test_a_standard_normal_goes_from_minus_three_to_three_any_other_over_its_own_range():
    found = traversals(linear_gaussian(), X, "z", [0])
    torch.testing.assert_close(found.values[0], torch.arange(-3.0, 4.0))
    wide = program_of(dist.Normal(torch.tensor([5.0, -5.0]), 10.0).to_event(1), torch.zeros(2))
    found = traversals(wide, X[:, :2], "z", [0, 1])
    torch.testing.assert_close(found.values, torch.arange(-3.0, 4.0) * 10 + torch.tensor([[5.0], [-5.0]]))
    torch.testing.assert_close(found.images[1, :, 1], found.values[1])
    assert (found.images[1, :, 0] == 0).all()
    joint = dist.MultivariateNormal(torch.tensor([1.0, 0.0]), torch.tensor([[4.0, 1.0], [1.0, 1.0]]))
    found = traversals(program_of(joint, torch.zeros(2)), X[:, :2], "z", [0])
    torch.testing.assert_close(found.values[0], 1 + 2 * torch.arange(-3.0, 4.0))


def test_a_law_without_quantiles_is_drawn_from_within_its_support():
    law = dist.Gamma(torch.tensor([2.0]), 1.0).to_event(1)
    found = traversals(program_of(law, torch.ones(1)), X[:, :1], "z", [0]).values[0]
    levels = torch.distributions.Normal(0.0, 1.0).cdf(torch.arange(-3.0, 4.0))
    cdf = 1 - (1 + found) * (-found).exp()  # of Gamma(2, 1)
    assert ((cdf - levels) / (levels * (1 - levels) / 10_000).sqrt()).abs().max() < 4.5
    again = traversals(program_of(law, torch.ones(1)), X[:, :1], "z", [0]).values[0]
    assert torch.equal(found, again)


def test_finite_units_take_every_state():
    bits = program_of(dist.Bernoulli(torch.full((2,), 0.5)).to_event(1), torch.tensor([1.0, 0.0]))
    found = traversals(bits, X[:, :2], "z", [0, 1])
    assert found.values.tolist() == [[0, 1], [0, 1]]
    assert found.images.tolist() == [[[0, 0], [1, 0]], [[1, 0], [1, 1]]]
    vectors = program_of(dist.OneHotCategorical(torch.ones(2, 3) / 3).to_event(1), torch.eye(3)[[2, 0]])
    found = traversals(vectors, torch.zeros(1, 6), "z", [1])
    assert found.values.tolist() == [[0, 1, 2]]
    assert found.images[0].tolist() == [[0, 0, 1, *one_hot] for one_hot in torch.eye(3).tolist()]
    assert traversals(vectors, torch.zeros(1, 6), "z", [1], [2]).images[0, 0].tolist() == [0, 0, 1, 0, 0, 1]


def test_a_mixture_shows_its_components():
    program = MixtureOfGaussians(3, 4)
    found = traversals(program, X, "z", [0])
    torch.testing.assert_close(found.images[0], program.locs.detach())


def test_units_of_a_nested_plate_are_counted_too():
    found = traversals(Images(), torch.zeros(1, *Images.shape), "z", [5], [1.0])
    expected = torch.zeros(6, 4)
    expected[5] = 2.0
    torch.testing.assert_close(found.images[0, 0], expected.reshape(Images.shape))


def test_layers_below_follow_and_layers_above_stay():
    net = small_net((2, 3, 3), 4)
    x = torch.tensor([[1.0, 0.0, 0.0, 1.0]])
    top = traversals(net, x, "z_1", [0, 1], seed=1)
    assert torch.equal(top.images, traversals(net, x, "z_1", [0, 1], seed=1).images)
    changed = [traversals(net, x, "z_1", [0], seed=s).images for s in range(8)]
    assert any(not torch.equal(images[0, 0], images[0, 1]) for images in changed), "nothing is seen of the top layer"
    bottom = traversals(net, x, "z_3", [0], seed=1).images[0]
    step = (bottom[1].logit() - bottom[0].logit()).detach()
    torch.testing.assert_close(step, 2 * net.decoders[-1].last.weight[:, 0].detach())


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_law_that_turns_around_its_mean_is_seen_to_change(sign):
    """w ~ N(sign z, 1) held at 0 has the same density at z = -1 and 1."""

    def model(x):
        with plate(x):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            w = pyro.sample("w", dist.Normal(sign * z, 1.0))
            pyro.sample("x", dist.Normal(w, 1.0), obs=x)

    def guide(x):
        with plate(x):
            pyro.sample("z", dist.Normal(torch.ones(len(x)), 1.0))
            pyro.sample("w", dist.Normal(torch.zeros(len(x)), 1.0))

    found = traversals(Made(model, guide), torch.zeros(1), "z", [0], [-1.0, 1.0])
    assert found.images.tolist() == [[-sign, sign]]


def test_what_cannot_be_moved_is_refused():
    vae = VAE(3, 2, (5,))
    x = torch.ones(2, 3)
    for arguments, told in (
        ((x, "z", [0]), r"one datum, and x holds 2: give x\[:1\]"),
        ((x[:1], "y", [0]), "no latent 'y': take one of 'z'"),
        ((x[:1], "z", [2]), r"has the units 0 to 1, and units is \[2\]"),
        ((x[:1], "z", []), r"units is \[\]"),
    ):
        with pytest.raises(ValueError, match=told):
            traversals(vae, *arguments)
    bits = program_of(dist.Bernoulli(torch.full((2,), 0.5)).to_event(1), torch.ones(2))
    with pytest.raises(ValueError, match=r"takes the values \[0.0, 1.0\], not \[0.5\]"):
        traversals(bits, x[:1, :2], "z", [0], [0.5])
    simplex = program_of(dist.Dirichlet(torch.ones(3)), torch.ones(3) / 3)
    with pytest.raises(ValueError, match="site 'z' leaves its support Simplex"):
        traversals(simplex, x[:1], "z", [0], [0.9])
