"""Rate and distortion in closed form and by enumeration; wrong signs fail."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import nn
from torch.distributions import Bernoulli, MultivariateNormal, Normal, kl_divergence

from pplvm.evaluation import rates
from pplvm.evaluation.one_by_one import each_datum, frozen, particles_of
from pplvm.evaluation.rates import rate_distortion
from pplvm.particles.enumeration import enumerate_guide
from pplvm.particles.pair import pair_up
from pplvm.programs.ppca import ProbabilisticPCA
from tests.evaluation.test_likelihood import Spoiled, ppca
from tests.problems import small_net, states_of


def known(program: ProbabilisticPCA, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """KL(q || p) and -E_q log p(x | z) of each datum, in closed form."""
    L = program.guide_tril.tril(-1) + program.guide_tril.diagonal().exp().diag()
    mean, W = program.encoder(x), program.decoder.weight
    rate = kl_divergence(MultivariateNormal(mean, scale_tril=L), MultivariateNormal(torch.zeros(2), torch.eye(2)))
    at_mean = Normal(program.decoder(mean), program.log_scale.exp()).log_prob(x).sum(1)
    spread = (W @ L).square().sum() / (2 * (2 * program.log_scale).exp())
    return rate.detach(), (spread - at_mean).detach()


def test_probabilistic_pca_in_closed_form():
    program, x = ppca(1.4), torch.randn(30, 5)
    found, (rate, distortion) = rate_distortion(program, x), known(program, x)
    assert found.closed == ("z",)
    torch.testing.assert_close(found.rate, rate)
    gap = found.distortion - distortion
    assert abs(gap.mean()) < 4 * gap.std() / 30**0.5 and gap.std() < 0.3
    assert torch.equal(found.elbo, -(found.rate + found.distortion))


@pytest.mark.parametrize("sign", [1, -1])
def test_draws_agree_with_the_closed_form(monkeypatch, sign):
    program, x = ppca(1.4), torch.randn(30, 5)
    monkeypatch.setattr(rates, "closed_forms", lambda drawn: {})
    terms = rates.latent_terms
    monkeypatch.setattr(rates, "latent_terms", lambda p, q: {n: sign * t for n, t in terms(p, q).items()})
    found, (rate, distortion) = rate_distortion(program, x, num_particles=300), known(program, x)
    gap = found.rate - rate
    assert found.closed == () and gap.std() > 0
    assert (abs(gap.mean()) < 4 * gap.std() / 30**0.5) == (sign == 1)
    gap = found.elbo + rate + distortion
    assert (abs(gap.mean()) < 4 * gap.std() / 30**0.5) == (sign == 1)


def test_without_closed_forms_the_elbo_is_that_of_the_same_draws(monkeypatch):
    net, x = small_net((2, 3)), (torch.rand(3, 3) < 0.5).double()
    monkeypatch.setattr(rates, "closed_forms", lambda drawn: {})
    with frozen(net, x) as pair:
        draws = [torch.cat([d.log_weights for d in particles_of(pair, row, 700)]) for row in each_datum(x, 5)]
    found = rate_distortion(net, x, num_particles=700, seed=5)
    torch.testing.assert_close(found.elbo, torch.cat(draws, 1).mean(0))


def test_each_layer_by_enumeration():
    net, x = small_net((2, 3), 12), (torch.rand(24, 12) < 0.5).double()
    pair = pair_up(net.model, net.guide, (x,), {})
    with torch.no_grad():
        values, log_p, log_q = states_of(pair, x[:1])
        truth = {"z_1": [], "z_2": [], "x": [], "elbo": []}
        z_1, z_2 = values["z_1"], values["z_2"]
        for row in x.split(1):
            log_p, log_q = (table[:, 0] for table in enumerate_guide(pair, (row,), {}))
            q_2 = Bernoulli(logits=net.encoders[1](row - net.centre)).log_prob(z_2).sum(-1)
            p_2 = Bernoulli(logits=net.decoders[0](2 * z_1 - 1)).log_prob(z_2).sum(-1)
            p_1 = Bernoulli(logits=net.prior_logits).log_prob(z_1).sum(-1)
            terms = {"z_1": log_q - q_2 - p_1, "z_2": q_2 - p_2, "x": p_1 + p_2 - log_p, "elbo": log_p - log_q}
            for name, term in terms.items():
                truth[name].append((log_q.exp() * term).sum())
    truth = {name: torch.stack(rows) for name, rows in truth.items()}
    found = rate_distortion(net, x, num_particles=600)
    assert list(found.rate_sites) == ["z_2", "z_1"] and list(found.distortion_sites) == ["x"]
    for name, column in [*found.rate_sites.items(), *found.distortion_sites.items(), ("elbo", found.elbo)]:
        gap = column - truth[name]
        assert abs(gap.mean()) < 4 * gap.std() / 24**0.5 and gap.std() < 0.3, name
    assert found.closed == ("z_1",)  # the prior of z_2 depends on z_1, which the guide draws after it


SEEN = torch.tensor([[True], [False], [True]])


class Nested(nn.Module):
    """Three latents a datum in a plate inside the batch, one of them hidden by a mask; the last run holds one draw."""

    def model(self, x):
        with pyro.plate("batch", len(x), dim=-1), pyro.plate("parts", 3, dim=-2), poutine.mask(mask=SEEN):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))  # (K, 3, B, 2)
            pyro.sample("x", dist.Normal(z.sum(-1), 1.0), obs=x.T)

    def guide(self, x):
        with pyro.plate("batch", len(x), dim=-1), pyro.plate("parts", 3, dim=-2), poutine.mask(mask=SEEN):
            pyro.sample("z", dist.Normal(x.T[..., None] / torch.tensor([3.0, 2.0]), 0.7).to_event(1))


def test_parts_nested_in_a_datum_and_masks():
    program, x = Nested(), torch.randn(20, 3)
    one = Normal(x[:, [0, 2], None] / torch.tensor([3.0, 2.0]), 0.7)
    rate = kl_divergence(one, Normal(0.0, 1.0)).sum((1, 2))
    distortion = (0.5 * math.log(2 * math.pi) + (x[:, [0, 2]] - one.mean.sum(-1)).square() / 2 + 0.49).sum(1)
    found = rate_distortion(program, x, num_particles=501)
    torch.testing.assert_close(found.rate, rate)
    gap = found.distortion - distortion
    assert abs(gap.mean()) < 4 * gap.std() / 20**0.5 and gap.std() < 0.2


def test_figures_say_what_is_in_closed_form():
    x = (torch.rand(5, 3) < 0.5).double()
    figures = {figure.name: figure for figure in rate_distortion(small_net((2, 3)), x, num_particles=40).figures}
    assert list(figures) == ["elbo", "rate", "rate of z_2", "rate of z_1", "distortion"]
    assert figures["rate of z_1"].note == "KL in closed form" and figures["rate of z_2"].note == "40 draws"
    total = figures["rate"].value + figures["distortion"].value
    assert figures["elbo"].value == pytest.approx(-total)
    single = rate_distortion(ppca(), torch.randn(5, 5)).figures
    assert [figure.name for figure in single] == ["elbo", "rate", "distortion"]


def test_what_is_no_number_names_datum_and_site():
    with pytest.raises(FloatingPointError, match="datum 1: the log-density of site 'x' is not a number"):
        rate_distortion(Spoiled(), torch.tensor([[0.0], [torch.nan]]))
    impossible = rate_distortion(Spoiled(), torch.tensor([[0.0], [-torch.inf]]))
    assert torch.equal(impossible.distortion, torch.tensor([0.0, torch.inf])) and (impossible.rate == 0).all()


def test_no_draws():
    with pytest.raises(ValueError, match="num_particles must be at least 1, got 0"):
        rate_distortion(ppca(), torch.zeros(1, 5), num_particles=0)
