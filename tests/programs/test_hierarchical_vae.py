"""The hierarchical VAE against what is known of it: exact posteriors, closed-form KLs, free bits and sandwiches."""

import math

import pyro.distributions as dist
import pytest
import torch
from numpy.polynomial.hermite_e import hermegauss
from torch import nn

from pplvm.evaluation.annealing.annealed import annealed
from pplvm.evaluation.annealing.bidirectional import bidirectional
from pplvm.evaluation.evaluate import evaluate
from pplvm.evaluation.likelihood import importance_sampled
from pplvm.evaluation.per_datum import each_datum, evaluation_mode
from pplvm.networks.residual import ResidualMLP
from pplvm.networks.spectral_norm import sum_of_spectral_norms
from pplvm.objectives.objective import Loss
from pplvm.objectives.pathwise import AnalyticKL, Pathwise, closed_forms
from pplvm.objectives.penalized import Penalized
from pplvm.objectives.tempered import Beta, FreeBits
from pplvm.particles.draw import draw_particles
from pplvm.particles.dreams import dream
from pplvm.particles.pair import draw_from_pair, pair_up
from pplvm.programs.hierarchical_vae import HierarchicalVAE, hierarchical_vae
from pplvm.programs.parts import gaussian

B, D = 4, 6
a, s, b, t = 0.8, 0.6, -1.3, 0.5  # z_2 = a z_1 + s noise, x = b z_2 + t noise


class Top(nn.Module):
    """z_1 ~ N(0, 1) with its exact posterior: x | z_1 ~ N(a b z_1, (b s)^2 + t^2)."""

    def prior(self, h):
        return torch.zeros(1), torch.zeros(1)

    def residuals(self, h, e):
        noise = (b * s) ** 2 + t**2
        precision = 1 + (a * b) ** 2 / noise
        return a * b * e / noise / precision, torch.full((1,), -math.log(precision) / 2)

    def update(self, h, z):
        return h + z


class Below(nn.Module):
    """z_2 | z_1 ~ N(a z_1, s^2), its posterior given z_1 and x relative to that."""

    def __init__(self, off=0.0):
        super().__init__()
        self.off = off

    def prior(self, h):
        return a * h, torch.full((1,), math.log(s))

    def residuals(self, h, e):
        precision = 1 / s**2 + (b / t) ** 2
        loc = (a * h / s**2 + b * e / t**2) / precision
        return (loc - a * h) / s + self.off, torch.full((1,), -math.log(precision * s**2) / 2)

    def update(self, h, z):
        return z


def linear(off=0.0):
    """The two-layer hierarchy of which all is known; h is z_1, then z_2."""
    decoder, likelihood = (lambda h: b * h), (lambda mean: gaussian(mean, torch.tensor(math.log(t))))
    return HierarchicalVAE(lambda x: [x, x], [Top(), Below(off)], decoder, likelihood, start=torch.zeros(1))


def log_evidence(x):
    return dist.Normal(0.0, math.sqrt((a * b) ** 2 + (b * s) ** 2 + t**2)).log_prob(x).sum(-1)


@pytest.fixture
def x():
    return torch.randn(B, 1)


def test_with_the_exact_posterior_every_log_weight_is_log_evidence(x):
    program = linear()
    drawn = draw_particles(program.model, program.guide, x, num_particles=5)
    torch.testing.assert_close(drawn.log_weights, log_evidence(x).expand(5, B), rtol=0, atol=1e-9)
    torch.testing.assert_close(-Loss(Pathwise(), program)(x), log_evidence(x).mean(), rtol=0, atol=1e-9)
    wrong = linear(off=0.01)
    apart = draw_particles(wrong.model, wrong.guide, x, num_particles=5).log_weights - log_evidence(x)
    assert apart.abs().max() > 1e-3


def test_the_evaluator_gives_log_evidence(x):
    found = importance_sampled(linear(), x, ks=(1, 10))
    torch.testing.assert_close(found.log_p, log_evidence(x)[:, None].expand(B, 2), rtol=0, atol=1e-9)
    wrong = importance_sampled(linear(off=0.5), x, ks=(1, 1000))
    short, error = log_evidence(x)[:, None] - wrong.log_p, 0.1
    assert short[:, 0].mean() > error and short[:, 1].abs().max() < error


def small(latent_sizes=(1, 2), data_size=4, seed=0):
    """A hierarchy with parameters drawn widely enough that nothing is at its start."""
    torch.manual_seed(seed)
    program = hierarchical_vae(data_size, latent_sizes, hidden_size=3)
    with torch.no_grad():
        for parameter in program.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return program


@pytest.fixture
def bits():
    return torch.bernoulli(torch.full((B, 4), 0.5))


def terms(program, x, K=3):
    drawn = draw_from_pair(pair_up(program.model, program.guide, (x,), {}), K, (x,), {})
    return drawn, closed_forms(drawn)


def test_the_posterior_starts_as_the_prior(bits):
    program = hierarchical_vae(4, (2, 3), hidden_size=5)
    drawn, closed = terms(program, bits)
    assert all(torch.equal(kl, torch.zeros_like(kl)) for kl in closed.values()) and len(closed) == 2
    assert all(torch.equal(drawn.log_p_sites[name], drawn.log_q_sites[name]) for name in ("z_1", "z_2"))


def test_the_kl_of_every_group_is_the_slides_formula(bits):
    drawn, closed = terms(small((1, 2, 2)), bits)
    assert list(closed) == ["z_1", "z_2", "z_3"]
    for name, kl in closed.items():
        q, p = drawn.guide_trace.nodes[name]["fn"].base_dist, drawn.model_trace.nodes[name]["fn"].base_dist
        d, ds = q.d_loc, q.d_log_scale
        slide = ((d**2 + (2 * ds).exp() - 1 - 2 * ds) / 2).sum(-1)
        torch.testing.assert_close(kl, slide.expand_as(kl), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(q.loc, p.loc + p.scale * d, rtol=1e-12, atol=1e-12)
        assert kl.min() > 1e-3


def test_the_encoder_runs_once_a_datum(bits):
    program, seen = small(), []
    program.bottom_up.register_forward_hook(lambda module, inputs, outputs: seen.append([e.shape for e in outputs]))
    drawn = draw_particles(program.model, program.guide, bits, num_particles=7)
    assert drawn.log_weights.shape == (7, B) and seen[-1] == [(B, 3), (B, 3)]


def gradients(objective, program, x):
    torch.manual_seed(5)
    loss = Loss(objective, program)
    loss(x)  # checks
    torch.manual_seed(5)
    return torch.autograd.grad(loss(x), list(program.parameters()), allow_unused=True, materialize_grads=True)


def test_free_bits_take_groups_apart(bits):
    """A group below its floor costs nothing, as with a weight of 0; the other one is as ever."""
    program = small()
    for floors, weights in (({"z_1": 1e3}, {"z_1": 0.0}), ({"z_2": 1e3}, {"z_2": 0.0}), (1e3, 0.0), (0.0, 1.0)):
        freed, weighed = FreeBits(AnalyticKL(), floors), Beta(AnalyticKL(), weights)
        for found, expected in zip(*(gradients(each, program, bits) for each in (freed, weighed)), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    one, other = (gradients(FreeBits(AnalyticKL(), {name: 1e3}), program, bits) for name in ("z_1", "z_2"))
    assert max(float((x - y).abs().max()) for x, y in zip(one, other, strict=True)) > 1e-2


def test_the_spectral_norm_is_a_penalty_that_is_weighed_and_no_part_of_the_bound(bits):
    torch.manual_seed(0)
    program = hierarchical_vae(4, (1, 2), hidden_size=3, spectral_norm=True)
    plain, penalized = AnalyticKL(), Penalized(AnalyticKL(), {"spectral_norm": 0.3})
    without, with_it = (gradients(each, program, bits) for each in (plain, penalized))
    closed = torch.autograd.grad(
        0.3 * sum_of_spectral_norms(program), list(program.parameters()), allow_unused=True, materialize_grads=True
    )
    for before, after, of_penalty in zip(without, with_it, closed, strict=True):
        torch.testing.assert_close(after - before, of_penalty, rtol=1e-9, atol=1e-9)
    assert max(float(each.abs().max()) for each in closed) > 0.1
    values = []
    for objective in (plain, penalized):
        torch.manual_seed(1)
        values.append(Loss(objective, program)(bits))
    assert torch.equal(*values) and not small().penalties


def by_quadrature(program, x, nodes=40):
    """log p(x) of two latents of one coordinate each, (B,), by Gauss and Hermite."""
    roots, weights = (torch.as_tensor(each) for each in hermegauss(nodes))
    log_weights = (weights / weights.sum()).log()
    one, other = roots[:, None, None, None], roots[None, :, None, None]  # of z_1 and z_2
    h = program.start
    for group, noise in zip(program.groups, (one, other), strict=True):
        loc, log_scale = group.prior(h)
        h = group.update(h, loc + log_scale.exp() * noise)
    log_p = program.likelihood(program.decoder(h)).log_prob(x)  # (nodes, nodes, B)
    return (log_p + log_weights[:, None, None] + log_weights[:, None]).flatten(0, 1).logsumexp(0)


def test_evaluators_give_what_quadrature_gives():
    program, every = small((1, 1)), torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 4)
    truth = by_quadrature(program, every)
    torch.testing.assert_close(truth.exp().sum(), torch.ones(()), rtol=0, atol=1e-9)
    x = every[[0, 6, 15]]
    sampled = importance_sampled(program, x, ks=(1, 3000))
    assert (sampled.log_p[:, 1] - truth[[0, 6, 15]]).abs().max() < 0.1
    assert (sampled.log_p[:, 0] - truth[[0, 6, 15]]).mean() < -0.1  # the elbo is seen to be below
    walked = annealed(program, x, chains=8, steps=8).log_px
    assert (walked - truth[[0, 6, 15]]).abs().max() < 0.3


def test_annealing_sandwiches_the_likelihood():
    program, like, data = small((1, 1)), torch.zeros(1, 4), 5
    found = bidirectional(program, like, data=data, chains=4, steps=6)
    with evaluation_mode(program, like) as pair:
        x = torch.cat([dream(pair, (like,), {})[1] for _ in each_datum(torch.arange(data), 0)])
    truth = by_quadrature(program, x)
    for apart in (truth - found.lower, found.upper - truth):
        assert apart.mean() > -3 * apart.std() / data**0.5
    assert found.gap.mean() < 1


def test_evaluation_shows_the_rate_of_every_group(bits):
    found = evaluate(small(), bits, ks=(1, 10), progress=False)
    named = {figure.name: figure for figure in found.sections["rate and distortion"]}
    assert {"rate of z_1", "rate of z_2", "rate"} <= named.keys()
    assert named["rate"].value == pytest.approx(named["rate of z_1"].value + named["rate of z_2"].value)
    assert "closed form" in named["rate of z_2"].note


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"latent_sizes": ()}, "latent_sizes must name at least one group"),
        ({"latent_sizes": (3, 0)}, "each an integer of at least 1"),
        ({"latent_sizes": (3, True)}, "such as 32,16,16"),
        ({"latent_sizes": (2.5,)}, "each an integer of at least 1"),
        ({"hidden_size": 0}, "hidden_size must be an integer of at least 1, got 0"),
        ({"num_blocks": 0}, "num_blocks must be an integer of at least 1, got 0"),
        ({"likelihood": "poisson"}, "likelihood must be"),
        ({"clamp": 0.0}, "clamp must be a positive number"),
        ({"clamp": -1.0}, "clamp must be a positive number"),
    ],
)
def test_bad_arguments_are_told_before_training(arguments, words):
    with pytest.raises(ValueError, match=words):
        hierarchical_vae(D, **arguments)


def test_parts_that_do_not_fit_are_told():
    with pytest.raises(ValueError, match="groups is empty"):
        HierarchicalVAE(lambda x: [], [], ResidualMLP(3, D), gaussian, torch.zeros(3))
    program = hierarchical_vae(D, (2,), 3)
    with pytest.raises(ValueError, match=r"data of shape \(6,\), and these have shape \(5,\)"):
        program.model(torch.zeros(2, 5))
    with pytest.raises(ValueError, match="bottom_up gives features for 2 groups, and there are 1"):
        HierarchicalVAE(lambda x: [x, x], [Below()], lambda h: h, gaussian, torch.zeros(1)).guide(torch.zeros(2, 1))
