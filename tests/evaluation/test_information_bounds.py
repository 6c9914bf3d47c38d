"""Barber-Agakov and InfoNCE where mutual information is known: Gaussians, enumerated belief nets, codes."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions.transforms import AffineTransform

from pplvm.evaluation.information import aggregate_posterior
from pplvm.evaluation.information_bounds import barber_agakov, info_nce, info_nce_of_dreams
from pplvm.particles.pair import pair_up
from pplvm.programs.vae import VAE
from tests.evaluation.test_information import PATTERNS, Codes
from tests.problems import LinearGaussian, linear_gaussian, small_net, states_of


def z_score(figure, truth):
    return (figure.value - truth) / figure.error


def information_of(program):
    """I_p(x; z) = log det(I + W^T W / s^2) / 2."""
    return -0.5 * float(torch.logdet(program.covariance()).detach())


def faint():
    """A linear Gaussian whose latent tells little, its guide the posterior."""
    return LinearGaussian(torch.tensor([[0.4], [-0.3]]), torch.zeros(2), 0.8).at_posterior()


def test_barber_agakov_is_tight_at_the_posterior_alone():
    """Elsewhere it is short by E KL(p(z | x) || q(z | x)), in closed form for a guide too wide."""
    program, like = linear_gaussian().at_posterior(), torch.zeros(1, 3)
    truth = information_of(program)
    found = barber_agakov(program, like, draws=4000)
    assert found.exact_entropy and torch.allclose(found.entropy, torch.tensor(1 + math.log(2 * math.pi)))
    bound, entropy, _ = found.figures
    assert abs(z_score(bound, truth)) < 4 and entropy.error is None
    assert "H(z) closed form" in bound.note
    with torch.no_grad():
        program.log_scale += 0.5
    short = 2 * (0.5 + (math.exp(-1.0) - 1) / 2)
    bound = barber_agakov(program, like, draws=4000, seed=1).figures[0]
    assert abs(z_score(bound, truth - short)) < 4 and z_score(bound, truth) < -8


@pytest.mark.parametrize("latent_sizes", [(3,), (2, 2)])
def test_barber_agakov_by_enumeration(latent_sizes):
    net = small_net(latent_sizes)
    with torch.no_grad():
        _, log_p, log_q = states_of(pair_up(net.model, net.guide, (PATTERNS,), {}), PATTERNS)
    log_prior = log_p.logsumexp(1)
    entropy = -float(log_prior.exp() @ log_prior)
    found = barber_agakov(net, PATTERNS, draws=6000)
    assert found.exact_entropy == (len(latent_sizes) == 1)
    bound, second, third = found.figures
    assert abs(z_score(bound, entropy + float((log_p.exp() * log_q).sum()))) < 4
    assert abs(z_score(third, float((log_p.exp() * log_q).sum()))) < 4
    assert second.value == pytest.approx(entropy, abs=4 * second.error if second.error else 1e-12)
    posterior = log_p - log_p.logsumexp(0)
    truth = entropy + float((log_p.exp() * posterior).sum())
    assert bound.value < truth


class Stretched(VAE):
    """A latent N(0, 4) by a transform, which has no entropy() of its own."""

    def model(self, x):
        with pyro.plate("batch", len(x)):
            start = dist.Normal(self.zeros, 1.0).to_event(1)
            z = pyro.sample("z", dist.TransformedDistribution(start, [AffineTransform(0.0, 2.0)]))
            pyro.sample("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x)


def test_a_prior_without_an_entropy_is_drawn_from():
    found = barber_agakov(Stretched(3, 1), PATTERNS, draws=3000)
    bound, entropy, _ = found.figures
    assert not found.exact_entropy and "H(z) from the same draws" in bound.note
    assert abs(z_score(entropy, 0.5 * math.log(2 * math.pi * math.e * 4))) < 4


def test_info_nce_of_two_by_enumeration():
    """Every z, its own x and one other, under the model; a forgotten log N would be seen."""
    net = small_net((3,))
    with torch.no_grad():
        net.decoders[-1].last.weight.mul_(2)
        _, log_p, log_q = states_of(pair_up(net.model, net.guide, (PATTERNS,), {}), PATTERNS)
    data = log_p.logsumexp(0).exp()  # (8,)
    pairs = (
        log_q.unsqueeze(2) - torch.logaddexp(log_q.unsqueeze(2), log_q.unsqueeze(1)) + math.log(2)
    )  # (S, own, other)
    truth = float((log_p.exp().unsqueeze(2) * data * pairs).sum())
    found = info_nce_of_dreams(net, PATTERNS, batch=2, batches=300)
    assert found.information.shape == (300, 2) and found.information.max() <= math.log(2)
    assert abs(z_score(found.figures[0], truth)) < 4
    assert abs(z_score(found.figures[0], truth - math.log(2))) > 8


def test_info_nce_nears_information_far_below_its_cap():
    """On the model's joint, and on data of the model, where guide and posterior are one."""
    program = faint()
    truth = information_of(program)
    assert 0.1 < truth < 0.3
    dreams = info_nce_of_dreams(program, torch.zeros(1, 2), batch=100, batches=40).figures[0]
    assert abs(z_score(dreams, truth)) < 4 and dreams.error < 0.02
    W = program.weight.detach()
    root = torch.linalg.cholesky(W @ W.T + program.s**2 * torch.eye(2))
    data = info_nce(program, torch.randn(1000, 2) @ root.T, batch=100).figures[0]
    assert abs(z_score(data, truth)) < 4 and data.error < 0.06


def test_info_nce_never_passes_its_cap():
    sharp = LinearGaussian(torch.tensor([[3.0], [2.0]]), torch.zeros(2), 0.05).at_posterior()
    assert information_of(sharp) > 4
    found = info_nce_of_dreams(sharp, torch.zeros(1, 2), batch=8, batches=30)
    assert found.information.max() <= math.log(8)
    assert 0.8 * math.log(8) < found.figures[0].value <= math.log(8)
    assert "at most log N = 2.08" in found.figures[0].note
    codes = info_nce(Codes(12, -math.inf), torch.arange(12.0).unsqueeze(1), batch=4)
    assert torch.allclose(codes.information, torch.tensor(4.0).log(), rtol=0, atol=1e-14)


def test_one_batch_of_all_data_is_the_aggregate_posterior():
    program = VAE(3, 2)
    found = info_nce(program, PATTERNS, batch=8, seed=5)
    whole = aggregate_posterior(program, PATTERNS, seed=5)
    assert found.figures[0].error is None
    assert found.figures[0].value == pytest.approx(float(whole.information.mean()), abs=1e-12)


def test_batches_follow_from_the_values():
    program, x = VAE(6, 2, (5,)), torch.rand(23, 6).round()
    found = info_nce(program, x, batch=5)
    assert found.information.shape == (4, 5)  # three are left over
    assert torch.allclose(found.information, info_nce(program, x.flip(0), batch=5).information, rtol=0, atol=1e-12)


def test_the_seed_decides_and_the_random_state_stays():
    program, like, state = VAE(6, 2, (5,)), torch.rand(4, 6).round(), torch.get_rng_state()
    one, same, other = (barber_agakov(program, like, draws=600, seed=seed).log_q for seed in (0, 0, 1))
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert torch.equal(one, barber_agakov(program, like.flip(0), draws=600).log_q)
    assert torch.equal(state, torch.get_rng_state())


def test_single_precision_is_summed_in_double():
    program, like = VAE(6, 2, (5,)).float(), torch.zeros(1, 6, dtype=torch.float32)
    found = barber_agakov(program, like, draws=10)
    assert found.log_q.dtype is found.entropy.dtype is torch.float64 and found.exact_entropy
    assert info_nce_of_dreams(program, like, batch=4, batches=2).information.dtype is torch.float64


class Two(VAE):
    def model(self, x):
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Normal(self.zeros, 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x)
            pyro.sample("label", dist.Bernoulli(logits=z[..., 0]), obs=x[:, 0])


class Point(VAE):
    def guide(self, x):
        with pyro.plate("batch", len(x)):
            pyro.sample("z", dist.Delta(self.encoder(x)[..., :2]).to_event(1))


@pytest.mark.parametrize("bound", [barber_agakov, info_nce_of_dreams])
def test_what_cannot_be_dreamt_is_refused(bound):
    with pytest.raises(ValueError, match=f"{bound.__name__}: .* observes 'x' and 'label': join them into one$"):
        bound(Two(3, 2), PATTERNS)
    with pytest.raises(ValueError, match=f"{bound.__name__} needs .* 'z' is a Delta"):
        bound(Point(3, 2), PATTERNS)


def test_numbers_out_of_range_are_refused():
    program = VAE(3, 2)
    with pytest.raises(ValueError, match="batch must be an integer of at least 2 and at most 8, the data given, got 9"):
        info_nce(program, PATTERNS, batch=9)
    with pytest.raises(ValueError, match="batch must be an integer of at least 2, got 1"):
        info_nce_of_dreams(program, PATTERNS, batch=1)
    with pytest.raises(ValueError, match="batches must be an integer of at least 1, got 0"):
        info_nce_of_dreams(program, PATTERNS, batches=0)
    with pytest.raises(ValueError, match="draws must be an integer of at least 2, got 1"):
        barber_agakov(program, PATTERNS, draws=1)
