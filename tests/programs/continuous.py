"""The programs with continuous latents, small, as the command line builds them: one row a program for the tests."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pplvm.bounds import iwae
from pplvm.catalog import PROGRAMS, find
from pplvm.networks.dense import MLP
from pplvm.objectives.objective import Objective
from pplvm.objectives.pathwise import Pathwise
from pplvm.programs.guides import FullCovariance, SemiAmortized
from pplvm.programs.parts import StandardNormal, bernoulli
from pplvm.programs.vae import VAE

__all__ = ["ROWS", "Row", "scattered"]

B, D, LEVELS = 4, 6, 4
MEAN = torch.linspace(0.1, 0.9, D, dtype=torch.float64)


def binary() -> Tensor:
    return torch.bernoulli(torch.full((B, D), 0.5))


def grey() -> Tensor:
    return torch.randint(LEVELS, (B, D)) / (LEVELS - 1)


def images() -> Tensor:
    return binary().reshape(B, 1, 2, 3)


class Row(NamedTuple):
    """A program and what is known of it.

    Arguments:
        make: it, small.
        data: a batch (B, D).
        closed: latents whose KL(q || p) has a closed form.
        refused: objectives of `test_continuous.OBJECTIVES` that do not take it, each with words of the reason.
        objective: under which every parameter has a gradient.
    """

    make: Callable[[], nn.Module]
    data: Callable[[], Tensor]
    closed: tuple[str, ...] = ()
    refused: Mapping[str, str] = {}
    objective: Objective = Pathwise(iwae, 2)


def named(name: str, **settings: object) -> Callable[[], nn.Module]:
    """What makes a program of the catalog, of two latents and five hidden units unless told otherwise."""
    sizes = {"latent_size": 2, "hidden_sizes": (5,)} | settings
    return lambda: find("program", PROGRAMS, name)(data_size=D, **sizes)


def scattered(program: nn.Module) -> nn.Module:
    """Away from where it starts, so that nothing is zero by chance."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in program.parameters():
            parameter.add_(0.4 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return program


def hierarchical() -> nn.Module:
    return find("program", PROGRAMS, "hierarchical-vae")(D, latent_sizes=(2, 1, 2), hidden_size=4, data_mean=MEAN)


def dequantized(dequantizer: str) -> Callable[[], nn.Module]:
    sizes = {"num_couplings": 2, "num_components": 2, "channels": 2}
    return lambda: find("program", PROGRAMS, "dequantized-flow")(D, LEVELS, dequantizer=dequantizer, **sizes)


def convolutional() -> nn.Module:
    return find("program", PROGRAMS, "conv-vae")((1, 2, 3), latent_size=2, channels=(2, 2))


def hierarchical_of_maps() -> nn.Module:
    make = find("program", PROGRAMS, "conv-hierarchical-vae")
    return make((1, 2, 3), num_groups=(2,), latent_channels=1, channels=4, data_mean=MEAN)


def full_covariance() -> nn.Module:
    head = FullCovariance(latent_size=2)
    return VAE(D, 2, (5,), encoder=nn.Sequential(nn.Flatten(1), MLP(D, head.input_size, (5,)), head))


def semi_amortized() -> nn.Module:
    parts = {"decoder": MLP(2, D, (5,)), "likelihood": bernoulli, "prior": StandardNormal(2)}
    encoder = SemiAmortized(nn.Sequential(nn.Flatten(1), MLP(D, 4, (5,))), **parts, latent_size=2, num_steps=2)
    return VAE(encoder=encoder, **parts)


UNSHIFTED = {"gdreg": "is neither Normal"}
"""Priors without a location and a scale of their draws."""

ROWS = {
    "vae": Row(named("vae", data_mean=MEAN), binary, ("z",)),
    "hierarchical-vae": Row(hierarchical, binary, ("z_1", "z_2", "z_3")),
    "conv-hierarchical-vae": Row(hierarchical_of_maps, images, ("z_1", "z_2")),
    "vamp-vae": Row(named("vamp-vae", num_components=3), binary, refused=UNSHIFTED),
    "iaf-vae": Row(named("iaf-vae", flow_hidden_sizes=(4,)), binary),
    "vlae": Row(named("vlae", flow_hidden_sizes=(4,)), binary, refused=UNSHIFTED),
    "flow-prior-vae": Row(named("flow-prior-vae", flow_hidden_sizes=(4,), num_couplings=2), binary, refused=UNSHIFTED),
    "delta-vae": Row(named("delta-vae", latent_size=4, length=2), binary, ("z",), refused=UNSHIFTED),
    "hyperspherical-vae": Row(
        named("hyperspherical-vae", latent_size=3, concentration=None), binary, ("z",), refused=UNSHIFTED
    ),
    "vae, full covariance": Row(full_covariance, binary, ("z",)),
    "vae, semi-amortized": Row(semi_amortized, binary, ("z",)),
    "vae, discretized logistic": Row(named("vae", likelihood="discretized-logistic", levels=LEVELS), grey, ("z",)),
    "dequantized-flow": Row(dequantized("uniform"), grey, refused=UNSHIFTED),
    "dequantized-flow, variational": Row(dequantized("variational"), grey, refused=UNSHIFTED),
    "conv-vae": Row(convolutional, images, ("z",)),
}
