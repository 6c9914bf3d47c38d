"""Mutual information and the aggregate posterior where they are known: enumerated, by quadrature, at their limits."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pplvm.evaluation import guide_density
from pplvm.evaluation.information import aggregate_posterior, mutual_information
from pplvm.evaluation.per_datum import datum_seeds
from pplvm.particles.pair import pair_up
from pplvm.programs.vae import VAE
from tests.problems import hermite_grid, linear_gaussian, small_net, states_of

PATTERNS = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 3)


class Codes(nn.Module):
    """z is one of M codes, x[:, 0] says which; the guide knows, knows nothing, or errs by a given probability."""

    def __init__(self, size, log_error):
        super().__init__()
        self.size, self.log_error, self.scale = size, log_error, nn.Parameter(torch.ones(()))

    def model(self, x):
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.OneHotCategorical(torch.ones(self.size)))
            pyro.sample(
                "x", dist.Normal((z @ torch.arange(1.0 * self.size)).unsqueeze(-1), self.scale).to_event(1), obs=x
            )

    def guide(self, x):
        wrong = torch.arange(self.size) != x
        with pyro.plate("batch", len(x)):
            pyro.sample("z", dist.OneHotCategorical(logits=torch.where(wrong, self.log_error, 0.0)))


class Blind(VAE):
    """A guide that ignores x."""

    def guide(self, x):
        with pyro.plate("batch", len(x)):
            pyro.sample("z", dist.Normal(self.zeros + 0.3, 0.7).expand([len(x), len(self.zeros)]).to_event(1))


def telling_net(latent_sizes):
    """A belief net whose latents know the data rather well."""
    net = small_net(latent_sizes)
    with torch.no_grad():
        net.encoders[-1].last.weight.mul_(3)
    return net


def enumerated(net):
    """Of all 8 data as rows: the log q table (S, N) and log p(z) (S,)."""
    pair = pair_up(net.model, net.guide, (PATTERNS,), {})
    with torch.no_grad():
        _, log_p, log_q = states_of(pair, PATTERNS)
    return log_q, log_p.logsumexp(1)


def z_scores(found, log_q, terms, draws):
    """Of per-datum means (N,) over draws of terms (S, N) at states of probability exp(log_q)."""
    mean = (log_q.exp() * terms).sum(0)
    variance = (log_q.exp() * terms.square()).sum(0) - mean.square()
    return (found - mean) / (variance / draws).sqrt()


@pytest.mark.parametrize("latent_sizes", [(3,), (2, 2)])
def test_every_term_by_enumeration(latent_sizes):
    """Layers jointly, all states summed; neither a forgotten log M nor a misplaced self would pass."""
    net, draws = telling_net(latent_sizes), 2000
    log_q, log_prior = enumerated(net)
    N = len(PATTERNS)
    mixture = (log_q.logsumexp(1) - math.log(N)).unsqueeze(1)
    apart = torch.stack([log_q[:, torch.arange(N) != i].logsumexp(1) for i in range(N)], 1)
    found = aggregate_posterior(net, PATTERNS, num_particles=draws)
    truths = {
        "information": log_q - mixture,
        "information_apart": log_q - apart + math.log(N - 1),
        "marginal": mixture - log_prior.unsqueeze(1),
        "rate": log_q - log_prior.unsqueeze(1),
    }
    for name, terms in truths.items():
        assert z_scores(getattr(found, name), log_q, terms, draws).abs().max() < 4.5, name
    mutants = [log_q - mixture - math.log(N), truths["information_apart"], log_q - apart + math.log(N)]
    for mutant in mutants:
        assert z_scores(found.information, log_q, mutant, draws).abs().max() > 8
    exact = float((log_q.exp() * (log_q - mixture)).sum(0).mean())
    assert 0.2 < exact < math.log(N) and abs(float(found.information.mean()) - exact) < 0.02
    assert found.components.tolist() == [N] * N
    total = found.reconstruction - found.information - found.marginal  # the elbo, as the model has it
    pair = pair_up(net.model, net.guide, (PATTERNS,), {})
    with torch.no_grad():
        _, log_p, _ = states_of(pair, PATTERNS)
    assert z_scores(total, log_q, log_p - log_q, draws).abs().max() < 4.5


def test_every_term_by_quadrature():
    """One Gaussian latent: the mixture of the guides is known at every node."""
    program = linear_gaussian(1, 2)
    x = 2 * torch.randn(150, 2)
    with torch.no_grad():
        program.log_scale.fill_(-1.0)
        m, s = program.encoder(x)[:, 0], program.log_scale.exp()
    weights, noise = hermite_grid(80, 1)
    z = m.unsqueeze(1) + s * noise  # (N, T)
    log_q = dist.Normal(m.unsqueeze(1), s).log_prob(z)
    mixture = dist.Normal(m, s).log_prob(z.unsqueeze(-1)).logsumexp(-1) - math.log(len(x))
    log_prior = dist.Normal(0.0, 1.0).log_prob(z)
    found = aggregate_posterior(program, x, num_particles=50)
    truths = {"information": log_q - mixture, "marginal": mixture - log_prior, "rate": log_q - log_prior}
    for name, terms in truths.items():
        gap = getattr(found, name) - terms @ weights
        assert abs(gap.mean() / (gap.std() / len(x) ** 0.5)) < 4, name
    assert (found.information - truths["information"] @ weights).abs().mean() < 0.1
    assert float((truths["information"] @ weights).mean()) > 0.5


def test_the_identity_is_exact():
    """rate = I_q + KL(q(z) || p(z)), and the figures add up to the elbo."""
    found = aggregate_posterior(VAE(3, 2), PATTERNS, num_particles=3)
    assert torch.allclose(found.rate, found.information + found.marginal, rtol=0, atol=1e-12)
    values = {figure.name: figure.value for figure in found.figures}
    carved = values["reconstruction"] - values["I_q(x; z)"] - values["KL(q(z) || p(z))"]
    assert abs(values["elbo"] - carved) < 1e-12
    assert values["elbo"] == pytest.approx(values["reconstruction"] - values["rate"], abs=1e-12)


def again_and_again(size, times):
    """Data sets of a known source, evaluated, and I_q(x; z) of that source."""
    program = linear_gaussian(1, 2).at_posterior()
    with torch.no_grad():
        A, W = program.encoder.weight, program.weight
        covariance = W @ W.T + program.s**2 * torch.eye(2)
        truth = 0.5 * float(torch.log1p(A @ covariance @ A.T / (2 * program.log_scale).exp()))
        root = torch.linalg.cholesky(covariance)
        data = [torch.randn(size, 2) @ root.T + program.bias for _ in range(times)]
    return [aggregate_posterior(program, x) for x in data], truth


def test_of_few_data_the_information_of_their_source_is_enclosed():
    """Own guide in, too low; left out, too high."""
    runs, truth = again_and_again(5, 100)
    low = torch.stack([run.information.mean() for run in runs])
    high = torch.stack([run.information_apart.mean() for run in runs])
    assert (low < high).all()
    assert (low.mean() - truth) / (low.std() / 10) < -3 and (high.mean() - truth) / (high.std() / 10) > 3


def test_errors_over_data_hold_for_the_source():
    """The aggregate's own noise adds nothing of their order."""
    runs, _ = again_and_again(25, 40)
    for name in ("information", "marginal"):
        values = torch.stack([getattr(run, name) for run in runs])  # (40, 25)
        claimed = (values.var(1) / 25).mean().sqrt()
        assert 0.6 < claimed / values.mean(1).std() < 1.6, name


def test_a_guide_that_ignores_the_data_has_no_information():
    x = torch.rand(7, 3).round()
    found = aggregate_posterior(Blind(3, 2), x, num_particles=2)
    assert found.information.abs().max() < 1e-12 and found.information_apart.abs().max() < 1e-12
    assert torch.allclose(found.marginal, found.rate, atol=1e-12)


def test_a_code_of_its_own_for_each_datum_is_the_cap():
    """log M to the last digit, the others' guides giving nothing at all; shared codes tell less."""
    x = torch.arange(12.0).unsqueeze(1)
    found = aggregate_posterior(Codes(12, -math.inf), x)
    assert torch.allclose(found.information, torch.tensor(12.0).log(), rtol=0, atol=1e-14)
    assert found.information_apart.tolist() == [math.inf] * 12
    assert found.marginal.abs().max() < 1e-14 and found.rate.isfinite().all()
    shared = aggregate_posterior(Codes(12, -math.inf), x // 3)
    assert torch.allclose(shared.information, torch.tensor(4.0).log(), rtol=0, atol=1e-14)
    figures = {figure.name: figure for figure in found.figures}
    assert "at most log M = 2.48" in figures["I_q(x; z)"].note
    assert figures["I_q(x; z), own guide left out"].value == math.inf
    assert figures["I_q(x; z), own guide left out"].error is None
    assert not any(math.isnan(figure.value) for figure in found.figures)


def terms_of(found):
    """Each datum's, by name."""
    assert found.fault == ""
    return {name: value for name, value in vars(found).items() if name not in ("fault", "names")}


def test_block_sizes_change_nothing(monkeypatch):
    program, x = small_net((2, 2)), PATTERNS
    whole = aggregate_posterior(program, x, num_particles=4)
    monkeypatch.setattr(guide_density, "BLOCK_BYTES", 100)
    monkeypatch.setattr(guide_density, "DATA_AT_ONCE", 3)
    blocks = aggregate_posterior(program, x, num_particles=4)
    for name, value in terms_of(whole).items():
        assert torch.allclose(value, getattr(blocks, name), rtol=0, atol=1e-12), name


def test_order_and_shards_change_nothing():
    """A rank's share of the data beside an aggregate of all of them is its share of the whole."""
    program, x = VAE(6, 2, (5,)), torch.rand(20, 6).round()
    whole = aggregate_posterior(program, x, seed=3)
    turned = aggregate_posterior(program, x.flip(0), seed=3)
    shard = aggregate_posterior(program, x[5:9], aggregate=x, seed=datum_seeds(x, 3)[5:9])
    for name, value in terms_of(whole).items():
        assert torch.allclose(value.sort().values, getattr(turned, name).sort().values, rtol=0, atol=1e-12), name
        assert torch.allclose(value[5:9], getattr(shard, name), rtol=0, atol=1e-12), name
    other = aggregate_posterior(program, x, seed=4)
    assert not torch.allclose(whole.rate, other.rate)


def test_data_apart_from_the_aggregate_join_it():
    x = torch.arange(8.0).unsqueeze(1)
    found = aggregate_posterior(Codes(8, -math.inf), x[:3], aggregate=x[2:])
    assert found.components.tolist() == [7, 7, 6]
    assert torch.allclose(found.information, torch.tensor([7.0, 7.0, 6.0]).log(), rtol=0, atol=1e-14)


def test_single_precision_is_summed_in_double():
    program, x = VAE(6, 2, (5,)).float(), torch.rand(30, 6).round().float()
    found = aggregate_posterior(program, x)
    assert all(value.dtype is torch.float64 for value in terms_of(found).values())
    exact = aggregate_posterior(program.double(), x.double())
    assert abs(float(found.information.mean() - exact.information.mean())) < 0.2  # other draws
    assert float(found.information.max()) <= math.log(30)


def test_mutual_information_is_the_mean():
    x = PATTERNS
    assert mutual_information(small_net(), x, seed=1) == float(
        aggregate_posterior(small_net(), x, seed=1).information.mean()
    )


def test_few_guides_are_told():
    found = aggregate_posterior(VAE(3, 2), PATTERNS)
    assert "8 guides are few, take 10,000" in str(found.figures[3])


def test_bad_input_is_refused():
    program, x = VAE(3, 2), PATTERNS
    with pytest.raises(ValueError, match="num_particles must be an integer of at least 1, got 0"):
        aggregate_posterior(program, x, num_particles=0)
    with pytest.raises(ValueError, match="at least 2 data"):
        aggregate_posterior(program, x[:1])
    with pytest.raises(ValueError, match=r"aggregate must hold data like x, \(3,\).*got \(8, 2\)"):
        aggregate_posterior(program, x, aggregate=x[:, :2])
    with pytest.raises(ValueError, match="aggregate must hold data like x"):
        aggregate_posterior(program, x, aggregate=x.float())
