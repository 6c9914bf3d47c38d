"""Exact log p(x) with each state decoded once is the sum over states written out, in any company."""

import itertools
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pplvm.evaluation import evidence, states_decoded_once
from pplvm.evaluation.evidence import log_evidence
from pplvm.particles.contract import ProgramError
from pplvm.programs.sigmoid_belief import SigmoidBeliefNet
from pplvm.programs.vq_vae import vq_vae
from pplvm.programs.vq_vae_2 import vq_vae_2

D = 6


@pytest.fixture(autouse=True)
def from_two_states_on(monkeypatch):
    monkeypatch.setattr(evidence, "FEW_STATES", 1)
    monkeypatch.setattr(states_decoded_once, "STATES", 16)  # several blocks, the last of them not full


def binary(rows=9, size=D):
    return torch.bernoulli(torch.full((rows, size), 0.5))


def one_by_one(monkeypatch, program, x):
    with monkeypatch.context() as patch:
        patch.setattr(evidence, "FEW_STATES", 2**14)
        return log_evidence(program, x).log_p


def net():
    found = SigmoidBeliefNet(D, (4, 3))
    for p in found.parameters():
        nn.init.normal_(p)
    return found


class Mixed(nn.Module):
    """A die and two coins above real data; the label shifts them."""

    def __init__(self, reads_data=False):
        super().__init__()
        self.reads_data = reads_data
        self.means = nn.Parameter(torch.randn(3, D))

    def model(self, x, y):
        with pyro.plate("batch", len(x)):
            die = pyro.sample("die", dist.Categorical(torch.tensor([0.2, 0.3, 0.5])))
            coins = pyro.sample("coins", dist.Bernoulli(torch.tensor([0.3, 0.6])).to_event(1))
            loc = self.means[die] * coins.sum(-1, keepdim=True) + y[..., None]
            loc = loc + 0.1 * x.mean(-1, keepdim=True) if self.reads_data else loc
            pyro.sample("x", dist.Normal(loc, 1.0).to_event(1), obs=x)

    def guide(self, x, y):
        with pyro.plate("batch", len(x)):
            pyro.sample("die", dist.Categorical(torch.ones(3) / 3))
            pyro.sample("coins", dist.Bernoulli(torch.ones(2) / 2).to_event(1))


@pytest.mark.parametrize("make", [net, lambda: vq_vae(D, grid=(1, 3), num_codes=4, hidden_sizes=(5,))])
def test_binary_data_by_matrix_products(monkeypatch, make):
    program, x = make(), binary()
    found = log_evidence(program, x)
    torch.testing.assert_close(found.log_p, one_by_one(monkeypatch, program, x), rtol=0, atol=1e-10)


@pytest.mark.parametrize("numbers", [2**24, 8])  # all data of a block at once, and one by one
def test_other_likelihoods_and_conditions(monkeypatch, numbers):
    monkeypatch.setattr(states_decoded_once, "MOST_NUMBERS", numbers)
    program, x = Mixed(), (torch.randn(9, D), torch.arange(9.0) % 2)
    torch.testing.assert_close(log_evidence(program, x).log_p, one_by_one(monkeypatch, program, x), rtol=0, atol=1e-10)
    one_level = vq_vae(D, grid=(1, 2), num_codes=5, likelihood="gaussian", hidden_sizes=(5,))
    x = torch.randn(9, D)
    torch.testing.assert_close(
        log_evidence(one_level, x).log_p, one_by_one(monkeypatch, one_level, x), rtol=0, atol=1e-10
    )


def test_two_levels_under_a_learned_prior(monkeypatch):
    program = vq_vae_2((1, 4, 4), (2, 2), (1, 1), 3, 2, 4, prior="pixelcnn", prior_width=4)
    for p in program.prior.parameters():
        nn.init.normal_(p, std=0.3)
    x = binary(3, 16).reshape(3, 1, 4, 4)
    torch.testing.assert_close(log_evidence(program, x).log_p, one_by_one(monkeypatch, program, x), rtol=0, atol=1e-10)


def test_against_the_sum_written_by_hand():
    program, x = vq_vae(D, grid=(1, 3), num_codes=4, hidden_sizes=(5,)), binary()
    terms = []
    for states in itertools.product(range(4), repeat=3):
        p_x = program.likelihood(program.decoder(program.codebook.codes[torch.tensor(states)][None]))
        terms.append(p_x.log_prob(x) - 3 * math.log(4))
    found = log_evidence(program, x)
    torch.testing.assert_close(found.log_p, torch.stack(terms).logsumexp(0).detach(), rtol=0, atol=1e-10)
    assert found.how == "64 states summed out"


def test_a_datums_figure_does_not_depend_on_its_company():
    program, x = vq_vae(D, grid=(1, 3), num_codes=4).float(), binary(70).float()
    together = log_evidence(program, x).log_p
    order = torch.randperm(70)
    assert torch.equal(log_evidence(program, x[order]).log_p, together[order])
    assert torch.equal(log_evidence(program, x[65:]).log_p, together[65:])


def test_a_decoder_that_reads_data_is_run_for_each(monkeypatch):
    program, x = Mixed(reads_data=True), (torch.randn(4, D), torch.arange(4.0) % 2)
    monkeypatch.setattr(states_decoded_once, "_observed_values", lambda *args: pytest.fail("decoded once"))
    torch.testing.assert_close(log_evidence(program, x).log_p, one_by_one(monkeypatch, program, x))


def test_more_work_than_minutes_is_refused_in_a_sentence(monkeypatch):
    monkeypatch.setattr(states_decoded_once, "MOST_WORK", 10)
    with pytest.raises(ProgramError, match=r"128 joint states of 9 data take 7e\+03 densities at site 'x'.*--limit"):
        log_evidence(net(), binary())


def test_progress_is_told_and_many_states_are_none():
    told = []
    log_evidence(net(), binary(), lambda done, total: told.append((done, total)))
    assert told[0] == (16, 128) and told[-1] == (128, 128)
    assert log_evidence(vq_vae(D, grid=(2, 3), num_codes=16), binary()) is None
