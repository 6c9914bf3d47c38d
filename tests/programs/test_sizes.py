"""Sizes that no network can have are refused with the program's and the argument's name."""

import pytest

from pplvm.programs.conv_vae import conv_vae
from pplvm.programs.delta_vae import DeltaVAE
from pplvm.programs.flow_prior_vae import flow_prior_vae
from pplvm.programs.hierarchical_vae import hierarchical_vae
from pplvm.programs.hyperspherical_vae import HypersphericalVAE
from pplvm.programs.iaf_vae import iaf_vae
from pplvm.programs.sizes import require_dense_sizes, require_sizes
from pplvm.programs.vae import VAE
from pplvm.programs.vamp_vae import vamp_vae
from pplvm.programs.vlae import vlae

DENSE = (VAE, iaf_vae, vlae, vamp_vae, flow_prior_vae, DeltaVAE, HypersphericalVAE)


@pytest.mark.parametrize("make", DENSE, ids=lambda make: make.__name__)
@pytest.mark.parametrize("size", [0, -1, 2.5, True, "x"])
def test_a_latent_size_is_a_positive_integer(make, size):
    with pytest.raises(
        ValueError, match=f"^{make.__name__}: latent_size must be an integer of at least 1, got {size!r}"
    ):
        make(6, latent_size=size)


@pytest.mark.parametrize("make", DENSE, ids=lambda make: make.__name__)
@pytest.mark.parametrize("sizes", [(0,), (5, 0), (1.5,), ("x",)])
def test_hidden_sizes_are_positive_integers(make, sizes):
    with pytest.raises(ValueError, match=f"^{make.__name__}: hidden_sizes must name the widths of the hidden layers"):
        make(6, hidden_sizes=sizes)


def test_no_hidden_layers_are_allowed():
    require_dense_sizes("VAE", 2, ())


@pytest.mark.parametrize("make", [iaf_vae, vlae, flow_prior_vae])
def test_the_widths_of_a_flows_networks_are_positive_integers(make):
    with pytest.raises(ValueError, match="flow_hidden_sizes must name the widths of hidden layers.*got \\(5, 0\\)"):
        make(6, flow_hidden_sizes=(5, 0))


@pytest.mark.parametrize(
    "make, told",
    [
        (lambda: conv_vae((1, 8, 8), latent_size=0), "conv_vae: latent_size must be an integer of at least 1, got 0"),
        (lambda: hierarchical_vae(6, latent_sizes=(2, 0)), "latent_sizes must name at least one group of latents"),
        (lambda: require_sizes("story", "size", [0]), "story: size must be an integer of at least 1, got 0"),
        (lambda: require_sizes("story", "sizes", (), "several", "2,1"), "story: sizes must name several, each an"),
    ],
)
def test_sizes_of_other_programs(make, told):
    with pytest.raises(ValueError, match=told):
        make()
