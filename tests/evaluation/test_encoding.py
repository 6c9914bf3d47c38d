"""Codes that are computed once, and programs whose codes are no constants of the data."""

import pytest
import torch

from pplvm.evaluation.encoding import code_sites, encode, why_not_encoded
from pplvm.programs.sigmoid_belief import SigmoidBeliefNet
from pplvm.programs.vq_vae import vq_vae
from pplvm.programs.vq_vae_2 import vq_vae_2

D = 16


def data(rows=5):
    return torch.bernoulli(torch.full((rows, D), 0.5))


def test_codes_and_distortion_are_those_of_the_parts():
    program, x = vq_vae(D, num_codes=300, hidden_sizes=(7,)).eval(), data()
    found = encode(program, iter([x[:3], x[3:]]))
    distances = (program.encoder(x)[:, :, None] - program.codebook.codes).square().sum(-1)
    assert torch.equal(found.index.long(), distances.argmin(-1)) and found.index.dtype is torch.int16
    p_x = program.likelihood(program.decoder(program.codebook.codes[found.index.long()]))
    torch.testing.assert_close(found.terms[:, 0], p_x.log_prob(x).detach())
    assert found.sites == {"codes": (4, 300)} and found.penalties == ("commitment", "codebook")
    assert found.bytes == 5 * (4 * 2 + 3 * 8)
    with pytest.raises(ValueError, match="there are no data to encode"):
        encode(program, iter([]))


def test_which_sites_are_codes():
    images = torch.zeros(1, 1, 4, 4)
    assert code_sites(vq_vae(D, posterior="stochastic"), data()) == {"codes": (4, 16)}
    assert code_sites(vq_vae_2((1, 4, 4), (2, 2), (1, 1), 3), images) == {"top": (1, 3), "bottom": (4, 3)}
    assert code_sites(SigmoidBeliefNet(D, (4,)), data()) == {}


class Noisy(torch.nn.Module):
    def forward(self, x):
        return (x + torch.randn_like(x)).reshape(len(x), 4, 4)


def test_what_is_drawn_anew_in_every_step_is_no_constant():
    assert why_not_encoded(vq_vae(D), data()) == ""
    assert why_not_encoded(vq_vae(D, posterior="stochastic"), data()) == "the guide draws 'codes' anew in every step"
    assert why_not_encoded(SigmoidBeliefNet(D, (4,)), data()) == "there are no codes"
    noisy = vq_vae(D, code_size=4)
    noisy.encoder = Noisy()
    assert why_not_encoded(noisy, data()) == "encoder or decoder are random"


