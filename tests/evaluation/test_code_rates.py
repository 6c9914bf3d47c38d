"""Bits of codes and of data apart: N log2 K under the uniform prior, and a sum that is the own bound."""

import math

import pytest
import torch

from pplvm.bounds import elbo
from pplvm.evaluation.code_rates import code_figures, own_bound
from pplvm.evaluation.evaluate import evaluate
from pplvm.evaluation.rate_distortion import rate_distortion
from pplvm.particles.draw import draw_particles
from pplvm.programs.sigmoid_belief import SigmoidBeliefNet
from pplvm.programs.sq_vae import sq_vae
from pplvm.programs.vq_vae import vq_vae
from pplvm.programs.vq_vae_2 import vq_vae_2

D = 16


def data(rows=6):
    return torch.bernoulli(torch.full((rows, D), 0.5))


def codes_of(program, x, **options):
    found = evaluate(program, x, ks=(1, 5), information_data=0, **options).sections
    return {figure.name: figure for figure in found.get("codes", [])}


def test_the_sum_is_the_own_bound_and_the_codes_cost_n_log_k():
    program, x = vq_vae(D, grid=(2, 2), num_codes=8), data()
    found = codes_of(program, x)
    bound = elbo(draw_particles(program.eval().model, program.guide, x).log_weights).mean()
    assert found["codes and data, own bound"].value == pytest.approx(-float(bound.detach()), rel=1e-9)
    assert found["codes, bits"].value == pytest.approx(12) and found["codes, bits/dim"].value == pytest.approx(12 / D)
    assert found["codes"].note == "4 codes of 8: 12.0 bits under a uniform prior" and found["codes"].error < 1e-12
    nats = found["codes"].value + found["data given codes"].value
    assert found["codes and data, own bound, bits/dim"].value == pytest.approx(nats / (D * math.log(2)))
    assert own_bound(list(found.values())).keys() == {
        "codes", "data given codes", "codes and data, own bound", "codes and data, own bound, bits/dim",
    }  # fmt: skip


def test_two_levels_are_told_apart():
    program = vq_vae_2((1, 4, 4), (2, 2), (1, 1), 4, 2, 4)
    found = codes_of(program, data().reshape(-1, 1, 4, 4))
    assert found["codes of top, bits"].value == pytest.approx(2)
    assert found["codes of bottom, bits"].value == pytest.approx(8)
    assert found["codes, bits"].value == pytest.approx(10)


def test_other_latents_are_no_codes():
    program, x = sq_vae(D, (1, 2), 4, 3, (5,)), data()
    found = codes_of(program, x)
    rates = rate_distortion(program, x)
    assert found["codes"].value == pytest.approx(float(rates.rate_sites["codes"].mean()))
    (other,) = rates.rate_sites.keys() - {"codes"}
    total = found["codes"].value + found[f"rate of {other}"].value + found["data given codes"].value
    assert found["codes and data, own bound"].value == pytest.approx(total)
    assert codes_of(SigmoidBeliefNet(D, (3,)), x) == {}


def test_densities_have_no_bits():
    program = vq_vae(D, likelihood="gaussian")
    rates = rate_distortion(program, torch.randn(3, D))
    names = [figure.name for figure in code_figures(rates, {"codes": (4, 16)}, D, discrete=False)]
    assert names == ["codes", "data given codes", "codes and data, own bound"]
    assert rates.num_particles == 1  # of a guide that always draws the same
