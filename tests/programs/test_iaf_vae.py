"""The VAE with an inverse autoregressive flow as posterior, of dense networks."""

import pytest
import torch

from pplvm.programs.iaf_vae import iaf_vae
from pplvm.programs.vae import VAE

D = 6


def test_it_is_composed_of_its_parts():
    program = iaf_vae(D, 3, (5, 4), num_flows=3, flow_hidden_sizes=(7, 8))
    assert isinstance(program, VAE)
    assert program.encoder.context_size == 4 and len(program.encoder.flows) == 3
    assert [layer.out_features for layer in (program.encoder.flows[0].first, program.decoder.last)] == [7, D]
    fn = program.encoder(torch.zeros(2, 1, 2, 3))
    assert fn.batch_shape == (2,) and fn.event_shape == (3,) and len(fn.transforms) == 3
    assert iaf_vae(D, 3, ()).encoder.context_size == 3


def test_the_decoder_starts_at_the_mean_of_the_data():
    mean = torch.linspace(0.1, 0.9, D, dtype=torch.float64)
    torch.testing.assert_close(iaf_vae(D, 2, data_mean=mean).decoder.last.bias.sigmoid(), mean)
    torch.testing.assert_close(iaf_vae(D, 2, likelihood="gaussian", data_mean=mean).decoder.last.bias, mean)


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"latent_size": 0}, "at least 1"),
        ({"hidden_sizes": (5, 0)}, "at least 1"),
        ({"flow_hidden_sizes": ()}, "flow_hidden_sizes must name the widths of hidden layers"),
        ({"flow_hidden_sizes": (0,)}, "at least 1"),
        ({"num_flows": 0}, "num_flows must be at least 1"),
        ({"likelihood": "poisson"}, "likelihood must be .* got 'poisson'"),
    ],
)
def test_bad_input(wrong, said):
    with pytest.raises(ValueError, match=said):
        iaf_vae(D, **wrong)
