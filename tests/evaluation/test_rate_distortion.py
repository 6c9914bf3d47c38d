"""Rate and distortion in closed form and by enumeration; wrong signs fail."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import nn
from torch.distributions import Bernoulli, MultivariateNormal, Normal, kl_divergence

from pplvm.evaluation import rate_distortion as rates
from pplvm.evaluation.per_datum import draw_in_chunks, each_datum, evaluation_mode
from pplvm.evaluation.rate_distortion import rate_distortion
from pplvm.particles.enumeration import enumerate_guide
from pplvm.particles.pair import pair_up
from pplvm.programs.ppca import ProbabilisticPCA
from tests.evaluation.test_likelihood import Spoiled, ppca
from tests.problems import hermite_grid, small_net, states_of


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
    with evaluation_mode(net, x) as pair:
        draws = [torch.cat([d.log_weights for d in draw_in_chunks(pair, row, 700)]) for row in each_datum(x, 5)]
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


class Positive(nn.Module):
    """r ~ Gamma(2, 1), z ~ N(0, 1), x ~ N(r + z, 1); LogNormal and Normal guides, each way that Pyro has to say it."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.loc, self.log_scale = nn.Parameter(torch.tensor([0.3, -0.2])), nn.Parameter(torch.tensor([-0.7, -0.4]))

    def model(self, x):
        with pyro.plate("batch", len(x)):
            r = pyro.sample("r", dist.Gamma(torch.tensor(2.0), 1.0).expand([len(x)]))
            z = pyro.sample("z", dist.Normal(torch.zeros(len(x)), 1.0))
            pyro.sample("x", dist.Normal((r + z).unsqueeze(-1), 1.0).to_event(1), obs=x)

    def guide(self, x):
        (m, n), (s, t) = self.loc, self.log_scale.exp()
        m, n = m + 0.1 * x[:, 0], n + 0 * x[:, 0]
        auxiliary = {"is_auxiliary": True}
        with pyro.plate("batch", len(x)):
            if self.how == "plain":
                pyro.sample("r", dist.LogNormal(m, s))
                pyro.sample("z", dist.Normal(n, t))
            elif self.how == "one draw each":
                u = pyro.sample("u", dist.Normal(m, s), infer=auxiliary)
                pyro.sample("r", dist.Delta(u.exp(), log_density=-u))
                v = pyro.sample("v", dist.Normal(n, t), infer=auxiliary)
                pyro.sample("z", dist.Delta(v))
            else:
                scale = torch.stack([s, t])
                u = pyro.sample("u", dist.Normal(torch.stack([m, n], -1), scale).to_event(1), infer=auxiliary)
                pyro.sample("r", dist.Delta(u[..., 0].exp(), log_density=-u[..., 0]))
                pyro.sample("z", dist.Delta(u[..., 1]))


def quadrature_of_positive(program, x):
    """Rates of r and z and the elbo (B,), over a grid of the noise."""
    probability, noise = hermite_grid(30, 2)  # (T,), (2, T)
    (m, n), (s, t) = program.loc, program.log_scale.exp()
    r = dist.LogNormal(m + 0.1 * x, s)
    z = dist.Normal(n, t)
    at_r, at_z = (m + 0.1 * x + s * noise[0][:, None]).exp(), n + t * noise[1][:, None]  # (T, B)
    rate_r = probability @ (r.log_prob(at_r) - dist.Gamma(2.0, 1.0).log_prob(at_r))
    rate_z = probability @ (z.log_prob(at_z) - dist.Normal(0.0, 1.0).log_prob(at_z)).expand(-1, len(x))
    return rate_r, rate_z, probability @ dist.Normal(at_r + at_z, 1.0).log_prob(x) - rate_r - rate_z


@pytest.mark.parametrize("how", ["plain", "one draw each", "one draw for both"])
def test_a_change_of_variables_keeps_its_jacobian(how):
    """Rates by quadrature, an auxiliary draw and its Deltas being one latent; a lost Jacobian is off by E log r."""
    program, x = Positive(how), torch.tensor([[0.5], [3.0], [1.0]]).double()
    rate_r, rate_z, elbo = (each.detach() for each in quadrature_of_positive(program, x[:, 0]))
    found = rate_distortion(program, x, num_particles=8_000)
    if how == "one draw for both":
        assert list(found.rate_sites) == ["r, z"]
        assert (found.rate - rate_r - rate_z).abs().max() < 0.06
    else:
        assert list(found.rate_sites) == ["r", "z"]
        assert (found.rate_sites["r"] - rate_r).abs().max() < 0.06
        assert (found.rate_sites["z"] - rate_z).abs().max() < 0.06
    assert (found.elbo - elbo).abs().max() < 0.08 and found.fault == ""
