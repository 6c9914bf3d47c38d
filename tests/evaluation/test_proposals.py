"""A point guide is never drawn from for log p(x): a proposal comes near to it, and stays below on average."""

import pytest
import torch

from pplvm.bounds import elbo
from pplvm.distributions.code_categorical import CodeCategorical
from pplvm.evaluation.evaluate import evaluate
from pplvm.evaluation.evidence import log_evidence
from pplvm.evaluation.likelihood import importance_sampled
from pplvm.evaluation.proposals import TEMPERATURES, proposal_for
from pplvm.particles.draw import draw_particles
from pplvm.programs.code_posteriors import codes_by_distance
from pplvm.programs.vae import VAE
from pplvm.programs.vq_vae import vq_vae
from pplvm.programs.vq_vae_2 import vq_vae_2

D = 16


def data(rows=6):
    return torch.bernoulli(torch.full((rows, D), 0.5))


@pytest.mark.parametrize(
    ("program", "shape"),
    [
        (vq_vae(D, num_codes=4), (D,)),
        (vq_vae_2((1, 4, 4), (2, 2), (1, 1), 4, 2, 4, prior="pixelcnn", prior_width=4), (1, 4, 4)),
    ],
)
def test_it_converges_to_the_exact_sum_and_the_point_does_not(program, shape):
    x = data().reshape(-1, *shape)
    program = program.double().eval()
    truth = log_evidence(program, x).log_p
    found = proposal_for(program, x, (1, 2000), seed=0)
    drawn = importance_sampled(found.program, x, ks=(1, 2000))
    assert ((drawn.log_p[:, 1] - truth).abs() < 5 * drawn.error[:, 1] + 1e-2).all()
    own = elbo(draw_particles(program.model, program.guide, x).log_weights)
    assert (own < truth - 0.1).all()
    (figure,) = found.figures
    assert figure.value in TEMPERATURES and "the highest log p, k = 100, of 6 data" in figure.note
    assert found.of == " of the proposal" and program.default_objective == "biased-pathwise"


def test_every_temperature_is_below_on_average():
    program, x = vq_vae(D, num_codes=4), data(3)
    truth = log_evidence(program, x).log_p
    for T in TEMPERATURES:
        found = importance_sampled(program.proposal(T), x, ks=(1, 400))
        assert (found.log_p[:, 0] < truth + 4 * found.error[:, 0]).all()


def test_other_programs_draw_by_their_own_guide():
    for program in (VAE(D, 2), vq_vae(D, posterior="stochastic")):
        found = proposal_for(program, data(), (1, 10), seed=0)
        assert found.program is program and not found.figures and not found.of


def test_the_evaluation_tells_which_draws_they_are():
    found = evaluate(vq_vae(D, num_codes=4), data(), ks=(10, 20), information_data=0)
    names = [figure.name for figure in found.sections["likelihood"]]
    assert names[:3] == ["log p(x), exact", "elbo of the proposal", "log p(x), k = 10"]
    assert not any("stays below" in figure.note for figure in found.sections["likelihood"])


def test_the_unit_of_the_temperature_is_the_squared_distance_of_neighbours():
    codes = torch.tensor([[0.0], [2.0], [5.0]])
    fn = codes_by_distance(torch.tensor([[1.0]]), codes, temperature=0.5)
    torch.testing.assert_close(fn.temperature, torch.tensor(0.5 * (4 + 4 + 9) / 3))
    same = codes_by_distance(torch.tensor([[1.0]]), torch.zeros(3, 1), temperature=0.5)
    assert isinstance(fn, CodeCategorical) and same.logits.isfinite().all()
