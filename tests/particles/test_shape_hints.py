"""What is said of convolutional programs, as they are commonly written, helps: each cure is taken, and it cures."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pplvm.networks.leading_dims import LeadingDims
from pplvm.objectives.objective import Loss
from pplvm.objectives.presets import iwae_pathwise
from pplvm.particles.faulty_layer import Location
from pplvm.particles.pair import pair_up
from pplvm.particles.shape_hints import shape_hint
from pplvm.particles.vectorization_check import why_particles_interact

B, SIDE = 5, 4


class Convolutional(nn.Module):
    """A guide and a model with convolutions, and the ways in which a decoder is written."""

    def __init__(self, decode):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Flatten(1), nn.Linear(2 * SIDE**2, 3))
        self.linear = nn.Linear(3, 2 * SIDE**2)
        self.convolution = nn.ConvTranspose2d(2, 1, 3, padding=1)
        self.wrapped = LeadingDims(self.convolution, 3)
        self.norm, self.flatten, self.unflatten = nn.BatchNorm2d(2), nn.Flatten(), nn.Unflatten(1, (2, SIDE, SIDE))
        self.dense, self.joined = nn.Linear(3, SIDE**2), nn.Linear(4, SIDE**2)
        self.decode_as = decode

    def decode(self, z):
        return self.decode_as(self, z)

    def model(self, x):
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(len(x), 3), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=self.decode(z)).to_event(1), obs=x.flatten(1))

    def guide(self, x):
        with pyro.plate("batch", len(x)):
            pyro.sample("z", dist.Normal(self.encoder(x.view(len(x), 1, SIDE, SIDE)), 1.0).to_event(1))


def image(net, z):
    return net.linear(z).reshape(*z.shape[:-1], 2, SIDE, SIDE)


def folded(net, z):
    return net.convolution(net.linear(z).view(-1, 2, SIDE, SIDE))


def with_a_constant(net, z, dims=()):
    return net.joined(torch.cat([z, torch.ones(B, 1).expand(*dims, B, 1)], -1))


def unpacked(net, z):
    rows, _ = z.shape
    return net.convolution(net.linear(z).view(rows, 2, SIDE, SIDE)).flatten(-3)


RESHAPE = r"h.reshape\(\*z.shape\[:-1\], 2, 4, 4\), z the draw, and wrap a convolution"
FOLDED = r"h.flatten\(-3\) for images, and wrap a convolution as pplvm.LeadingDims\(layer, 3"

WRONG = {
    "the batch size in a view": (lambda net, z: net.convolution(net.linear(z).view(B, 2, 4, 4)).flatten(-3), RESHAPE),
    "len of the draw": (lambda net, z: net.convolution(net.linear(z).view(len(z), 2, 4, 4)).flatten(-3), RESHAPE),
    "view(-1)": (lambda net, z: folded(net, z).view(-1, SIDE**2), FOLDED),
    "flatten(1)": (lambda net, z: folded(net, z).flatten(1), FOLDED),
    "batch size when flattening": (
        lambda net, z: net.wrapped(image(net, z)).view(len(z), 16),
        r"h.reshape\(\*z.shape\[:-1\], 16\)",
    ),
    "unpacked": (unpacked, r"\*left, Z = z.shape"),
    "Conv2d": (
        lambda net, z: net.convolution(image(net, z)).flatten(-3),
        r"\(ConvTranspose2d\) at .*wrap it as pplvm.LeadingDims\(layer, 3\), 3 the dim.*, \(C, H, W\)",
    ),
    "BatchNorm2d": (
        lambda net, z: net.wrapped(net.norm(image(net, z))).flatten(-3),
        r"\(BatchNorm2d\) at .*pplvm.LeadingDims\(layer, 3\)",
    ),
    "Flatten": (lambda net, z: net.flatten(net.wrapped(image(net, z))), FOLDED),
    "Flatten of the draw": (lambda net, z: net.dense(net.flatten(z)), r"\(Linear\) at .*what enters it has lost them"),
    "Unflatten": (
        lambda net, z: net.wrapped(net.unflatten(net.linear(z))).flatten(-3),
        r"make it nn.Unflatten\(-1, \(2, 4, 4\)\)",
    ),
    "a constant": (with_a_constant, r"torch.cat\(\[z, x.expand\(\*z.shape\[:-1\], -1\)\], -1\)"),
}

RIGHT = {
    "reshape": lambda net, z: net.wrapped(image(net, z)).flatten(-3),
    "unflatten": lambda net, z: net.wrapped(net.linear(z).unflatten(-1, (2, SIDE, SIDE))).flatten(-3),
    "normalized": lambda net, z: net.wrapped(LeadingDims(net.norm.eval(), 3)(image(net, z))).flatten(-3),
    "a constant": lambda net, z: with_a_constant(net, z, z.shape[:-2]),
    "the whole": lambda net, z: LeadingDims(lambda z: folded(net, z).view(len(z), -1), 1)(z),
}


def batch():
    torch.manual_seed(0)
    return (torch.rand(B, SIDE, SIDE) < 0.5).to(torch.get_default_dtype())


@pytest.mark.parametrize("how", WRONG)
def test_a_decoder_that_loses_the_leading_dimensions_is_told_how_to_keep_them(how):
    decode, cure = WRONG[how]
    x, program = batch(), Convolutional(decode)
    pair = pair_up(program.model, program.guide, (x,), {})  # at one particle nothing is wrong
    with pytest.raises(ValueError, match=f"with K > 1 particles at once.*{cure}"):
        Loss(iwae_pathwise(num_particles=3), program)(x)
    said = why_particles_interact(pair, (x,), {})
    assert said is not None and "test_shape_hints.py, line " in said
    assert "): keep the leading dimensions, (K, B): " in said and len(said) < 550


@pytest.mark.parametrize("how", RIGHT)
def test_what_is_told_cures(how):
    x, program = batch(), Convolutional(RIGHT[how])
    assert why_particles_interact(pair_up(program.model, program.guide, (x,), {}), (x,), {}) is None
    Loss(iwae_pathwise(num_particles=3), program)(x).backward()
    assert program.encoder[0].weight.grad.abs().sum() > 0


class Method(Convolutional):
    """Its decoder is a method of one argument, as most are."""

    def logits(self, z):
        return self.convolution(self.linear(z).view(len(z), 2, SIDE, SIDE)).view(len(z), -1)


def test_a_method_of_one_argument_can_be_called_as_a_whole():
    x, wrong = batch(), Method(lambda net, z: net.logits(z))
    said = why_particles_interact(pair_up(wrong.model, wrong.guide, (x,), {}), (x,), {})
    assert "call it as pplvm.LeadingDims(self.logits, 1)(z), 1 the dimensions of one z, or write h.reshape(" in said
    right = Method(lambda net, z: LeadingDims(net.logits, 1)(z))
    assert why_particles_interact(pair_up(right.model, right.guide, (x,), {}), (x,), {}) is None


@pytest.mark.parametrize(
    ("layer", "dims"),
    [(nn.Conv1d(1, 1, 1), 2), (nn.MaxPool2d(2), 3), (nn.ConvTranspose3d(1, 1, 1), 4), (nn.BatchNorm2d(1), 3)],
)
def test_the_dimensions_of_one_input_are_told_where_the_layer_knows_them(layer, dims):
    assert f"pplvm.LeadingDims(layer, {dims}), {dims} the dim" in shape_hint(Location(layer=layer))


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(1), nn.GRU(1, 1)])
def test_and_left_open_where_it_does_not(layer):
    assert "pplvm.LeadingDims(layer, n), n the dimensions of one input" in shape_hint(Location(layer=layer))
