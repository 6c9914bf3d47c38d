"""The hierarchical VAE of maps: sites by scale, KLs in closed form, data of any form, and bad arguments."""

import pytest
import torch

from pplvm.objectives.objective import Loss
from pplvm.objectives.pathwise import AnalyticKL, closed_forms
from pplvm.particles.draw import draw_particles
from pplvm.programs.conv_hierarchical_vae import conv_hierarchical_vae

B, SHAPE = 3, (1, 8, 8)


@pytest.fixture
def x():
    return torch.bernoulli(torch.full((B, *SHAPE), 0.5))


def test_latents_are_maps_at_each_scale_with_closed_forms(x):
    program = conv_hierarchical_vae(SHAPE, num_groups=(2, 1), latent_channels=2, channels=4)
    drawn = draw_particles(program.model, program.guide, x, num_particles=5)
    shapes = {name: drawn.guide_trace.nodes[name]["fn"].event_shape for name in ("z_1", "z_2", "z_3")}
    assert shapes == {"z_1": (2, 2, 2), "z_2": (2, 2, 2), "z_3": (2, 4, 4)}
    assert set(closed_forms(drawn)) == {"z_1", "z_2", "z_3"} and drawn.log_weights.shape == (5, B)


def test_it_starts_at_the_mean_of_the_data(x):
    mean = torch.linspace(0.1, 0.9, 64)
    program = conv_hierarchical_vae(SHAPE, channels=4, data_mean=mean)
    h = torch.zeros(2, 4, 4, 4)
    program.decoder.layers[-1].layer.weight.data.zero_(), program.decoder.layers[-1].layer.bias.data.zero_()
    torch.testing.assert_close(program.likelihood(program.decoder(h)).mean, mean.expand(2, 64))
    torch.testing.assert_close(program.bottom_up.centre.flatten(), mean)


@pytest.mark.parametrize("options", [{"weight_norm": True}, {"squeeze_excitation": False}, {"spectral_norm": True}])
def test_choices_of_the_blocks_train(x, options):
    torch.manual_seed(1)
    program = conv_hierarchical_vae(SHAPE, (1, 1), 1, 4, **options)
    loss, optimizer = Loss(AnalyticKL(), program), torch.optim.Adam(program.parameters(), 1e-2)
    values = []
    for _ in range(30):
        optimizer.zero_grad()
        value = loss(x)
        value.backward()
        optimizer.step()
        values.append(float(value.detach()))
    assert sum(values[-5:]) < 0.9 * sum(values[:5])


def test_grey_values_have_as_many_outputs_as_they_need():
    program = conv_hierarchical_vae(SHAPE, (1, 1), 1, 4, likelihood="discretized-logistic", levels=17)
    grey = torch.randint(17, (B, *SHAPE)) / 16
    assert Loss(AnalyticKL(), program)(grey).isfinite()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"num_groups": ()}, "num_groups must name how many groups there are at each scale"),
        ({"num_groups": (2, 0)}, "each an integer of at least 1, such as 2,1"),
        ({"num_groups": (1, 1, 1, 1)}, "an image of 8x8 cannot be halved 4 times, once for each scale of num_groups"),
        ({"data_shape": (64,)}, "data_shape must be that of images"),
        ({"data_shape": (1, 8, 0)}, "data_shape must name channels, height and width"),
        ({"latent_channels": 0}, "latent_channels must be an integer of at least 1, got 0"),
        ({"channels": -1}, "channels must be an integer of at least 1, got -1"),
        ({"num_blocks": 0}, "num_blocks must be an integer of at least 1"),
        ({"data_mean": torch.zeros(5)}, "data_mean has 5 values, and an image of 1x8x8 64"),
        ({"likelihood": "poisson"}, "likelihood must be"),
        ({"clamp": 0.0}, "clamp must be a positive number"),
    ],
)
def test_bad_arguments_are_told_before_training(arguments, words):
    with pytest.raises(ValueError, match=words):
        conv_hierarchical_vae(**{"data_shape": SHAPE, **arguments})
