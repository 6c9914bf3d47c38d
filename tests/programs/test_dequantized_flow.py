"""Dequantization as a proper program, against quadrature and the distribution function of a known density."""

import math

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import pplvm
from pplvm.bounds import elbo, iwae
from pplvm.distributions.transforms.scaled_sigmoid import ScaledSigmoid
from pplvm.evaluation.samples import prior_samples
from pplvm.objectives.objective import Loss
from pplvm.objectives.pathwise import Pathwise
from pplvm.particles.draw import draw_particles
from pplvm.programs.dequantized_flow import DequantizedFlow, LevelsFlow, dequantized_flow
from pplvm.programs.dequantizers import FlowDequantizer, UniformDequantizer

L = 8
LOC, SCALE = -0.4, 0.6
K = torch.arange(L, dtype=torch.float64).unsqueeze(-1)  # (L, 1), every level of one dimension
X = K / (L - 1)


class KnownFlow(nn.Module):
    """L sigmoid(N(loc, scale^2)), of one dimension, whose distribution function is known."""

    def forward(self):
        noise = dist.Normal(torch.full((1,), LOC), SCALE).to_event(1)
        return dist.TransformedDistribution(noise, [ScaledSigmoid(L)])


class FlatFlow(nn.Module):
    """The uniform distribution of D dimensions on [0, levels)."""

    def __init__(self, levels, D=1):
        super().__init__()
        self.levels, self.D = levels, D

    def forward(self):
        return dist.Uniform(torch.zeros(self.D), float(self.levels)).to_event(1)


class PosteriorDequantizer(nn.Module):
    """u with density p(k + u) / P(k) under `KnownFlow`: a truncated normal, through the same sigmoid."""

    def forward(self, k):
        return PosteriorNoise(k)


class PosteriorNoise(dist.TorchDistribution):
    arg_constraints = {}
    has_rsample = True
    support = dist.constraints.independent(dist.constraints.unit_interval, 1)

    def __init__(self, k):
        self.k = k
        super().__init__(k.shape[:-1], k.shape[-1:])

    def expand(self, batch_shape, _instance=None):
        return PosteriorNoise(self.k.expand(*batch_shape, self.k.shape[-1]))

    def rsample(self, sample_shape=()):
        low, high = ends(self.k)
        p = low + (high - low) * torch.rand(*sample_shape, *self.k.shape)
        return L * torch.sigmoid(LOC + SCALE * torch.special.ndtri(p)) - self.k

    def log_prob(self, u):
        return KnownFlow()().log_prob(self.k + u) - log_mass(self.k).squeeze(-1)


def ends(k):
    """The distribution function at both ends of a bin."""
    return tuple(torch.special.ndtr((torch.logit((k + more) / L) - LOC) / SCALE) for more in (0, 1))


def log_mass(k):
    low, high = ends(k)
    return (high - low).log()


def quadrature(nodes=60):
    u, weight = (torch.from_numpy(each) for each in np.polynomial.legendre.leggauss(nodes))
    return (u + 1) / 2, weight / 2


def log_weights_on(u, program):
    """log w of every level at noise (..., 1), of a uniform dequantizer: the flow's density."""
    return program.flow().log_prob(K + u.unsqueeze(-1).unsqueeze(-1))  # (..., L)


def bounds(program, nodes=60):
    """The expected elbo and iwae of two particles under uniform noise, of every level."""
    u, weight = quadrature(nodes)
    log_w = log_weights_on(u, program)  # (n, L)
    of_two = torch.logaddexp(log_w[:, None], log_w[None]) - math.log(2)  # (n, n, L)
    return (weight[:, None] * log_w).sum(0), (weight[:, None, None] * weight[None, :, None] * of_two).sum((0, 1))


def test_levels_have_masses_that_sum_to_one():
    torch.testing.assert_close(log_mass(K).exp().sum(), torch.tensor(1.0))


def test_uniform_noise_gives_a_bound_and_more_particles_a_better_one():
    program = DequantizedFlow(KnownFlow(), UniformDequantizer(1), L)
    one, two = bounds(program)
    exact = log_mass(K).squeeze(-1)
    assert (one < two - 1e-6).all() and (two < exact - 1e-6).all()
    torch.manual_seed(0)
    drawn = draw_particles(program.model, program.guide, X, num_particles=40_000).log_weights
    assert ((drawn.mean(0) - one).abs() < 4.5 * drawn.std(0) / 200).all()


def test_the_gap_of_uniform_noise_is_a_divergence():
    """log P(k) - elbo = KL(uniform || p(u | k)): so no uniform dequantization is above the best learned one."""
    one, _ = bounds(DequantizedFlow(KnownFlow(), UniformDequantizer(1), L))
    u, weight = quadrature()
    log_posterior = PosteriorNoise(K).log_prob(u[:, None, None])  # (n, L)
    torch.testing.assert_close(log_mass(K).squeeze(-1) - one, -(weight[:, None] * log_posterior).sum(0))


def test_noise_from_the_posterior_gives_the_mass_exactly():
    program = DequantizedFlow(KnownFlow(), PosteriorDequantizer(), L)
    log_w = draw_particles(program.model, program.guide, X, num_particles=50).log_weights
    torch.testing.assert_close(log_w, log_mass(K).squeeze(-1).expand(50, L), atol=1e-8, rtol=0)


def test_a_flat_bin_is_exact_under_uniform_noise_and_no_other():
    flat = DequantizedFlow(FlatFlow(L), UniformDequantizer(1), L)
    log_w = draw_particles(flat.model, flat.guide, X, num_particles=5).log_weights
    torch.testing.assert_close(log_w, torch.full((5, L), -math.log(L)), atol=1e-12, rtol=0)
    tilted = DequantizedFlow(KnownFlow(), UniformDequantizer(1), L)
    assert draw_particles(tilted.model, tilted.guide, X, num_particles=5).log_weights.std(0).min() > 1e-3


def test_a_flow_that_forgets_the_levels_fails(monkeypatch):
    """The Jacobian of [0, levels) is part of the mass: without it a bin would have more than its probability."""
    right = ScaledSigmoid._log_det
    monkeypatch.setattr(ScaledSigmoid, "_log_det", lambda self, x: right(self, x) - math.log(self.high))
    one, _ = bounds(DequantizedFlow(KnownFlow(), UniformDequantizer(1), L))
    assert (one > log_mass(K).squeeze(-1)).any()


def test_the_evaluator_finds_the_mass():
    program = DequantizedFlow(KnownFlow(), UniformDequantizer(1), L)
    found = pplvm.evaluate(program, X, ks=(1, 2000), levels=L, compile="off")
    exact = log_mass(K).squeeze(-1)
    assert (found.per_datum["log_p"][:, 1] - exact).abs().max() < 0.02
    bits = next(each for each in found.sections["likelihood"] if each.name == "bits/dim")
    assert bits.note == "discrete likelihood, 8 levels"
    assert abs(bits.value - -exact.mean().item() / math.log(2)) < 0.02


def test_256_flat_levels_are_8_bits_per_dimension():
    program = DequantizedFlow(FlatFlow(256, 5), UniformDequantizer(5), 256)
    x = torch.randint(256, (7, 5)) / 255
    found = pplvm.evaluate(program, x, ks=(1, 4), levels=256, compile="off")
    bits = next(each for each in found.sections["likelihood"] if each.name == "bits/dim")
    assert abs(bits.value - 8) < 1e-12


def test_learning_the_noise_improves_the_bound_towards_the_mass():
    """A learned dequantizer of two dimensions, of a fixed flow: above uniform, never above log P(x)."""
    fixed = LevelsFlow((2,), levels=4, num_couplings=2, num_components=2, channels=8)
    for each in fixed.couplings.networks:
        nn.init.normal_(each.last.weight, std=0.5)
    fixed.requires_grad_(False)
    uniform = DequantizedFlow(fixed, UniformDequantizer(2), 4)
    learned = DequantizedFlow(fixed, FlowDequantizer((2,), 4, num_couplings=2, channels=16), 4)
    x = torch.cartesian_prod(torch.arange(4.0), torch.arange(4.0)) / 3
    u, weight = quadrature(80)
    square, area = torch.cartesian_prod(u, u), (weight[:, None] * weight).flatten()
    with torch.no_grad():
        log_p = fixed().log_prob((3 * x).round() + square.unsqueeze(1))  # (n, 16)
    exact = (log_p + area.log()[:, None]).logsumexp(0)
    before = (area[:, None] * log_p).sum(0)
    loss = Loss(Pathwise(elbo, 4), learned)
    optimizer = torch.optim.Adam(learned.dequantizer.parameters(), 1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        loss(x).backward()
        optimizer.step()
    with torch.no_grad():
        drawn = draw_particles(learned.model, learned.guide, x, num_particles=2000).log_weights
    error = (drawn.std(0) / 2000**0.5).square().sum().sqrt() / 16
    assert (before <= exact).all()
    assert before.mean() + 4 * error < drawn.mean() < exact.mean() + 4 * error
    start = draw_particles(uniform.model, uniform.guide, x, num_particles=2000).log_weights
    assert (start.mean(0) - before).abs().max() < 5 * start.std(0).max() / 2000**0.5


@pytest.mark.parametrize("dequantizer", ["uniform", "variational"])
def test_images_and_their_samples(dequantizer):
    program = dequantized_flow(16, 5, (1, 4, 4), torch.randint(5, (9, 16)) / 4, dequantizer, 2, 2, 4)
    x = torch.randint(5, (3, 1, 4, 4)) / 4
    found = draw_particles(program.model, program.guide, x, num_particles=2)
    assert found.log_weights.shape == (2, 3) and found.log_weights.isfinite().all()
    assert torch.equal(found.log_p_sites["x"], torch.zeros(2, 3))
    drawn = prior_samples(program, x[:1], 6).draw
    assert drawn.shape == (6, 1, 4, 4) and torch.equal((4 * drawn).round(), 4 * drawn) and drawn.max() <= 1


def test_samples_have_the_masses():
    program = DequantizedFlow(KnownFlow(), UniformDequantizer(1), L)
    drawn = (prior_samples(program, X[:1], 20_000).draw * (L - 1)).round().long().flatten()
    p = log_mass(K).exp().flatten()
    counts = torch.bincount(drawn, minlength=L) / 20_000
    assert ((counts - p).abs() < 4.5 * (p * (1 - p) / 20_000).sqrt()).all()


def test_binary_data_have_two_levels():
    program = dequantized_flow(6, levels=2, num_couplings=2, channels=8)
    x = torch.bernoulli(torch.full((4, 6), 0.5))
    assert draw_particles(program.model, program.guide, x, num_particles=3).log_weights.isfinite().all()


def test_float32_levels_stay_in_their_bins():
    torch.set_default_dtype(torch.float32)
    program = dequantized_flow(4, levels=256, dequantizer="variational", num_couplings=2, channels=8)
    with torch.no_grad():
        for parameter in program.dequantizer.parameters():
            parameter.normal_()
    x = torch.tensor([[0.0, 1.0, 254 / 255, 128 / 255]]).expand(500, 4)
    found = draw_particles(program.model, program.guide, x, num_particles=4)
    torch.set_default_dtype(torch.float64)
    assert torch.equal(found.log_p_sites["x"], torch.zeros(4, 500)) and found.log_weights.isfinite().all()


def test_the_flow_starts_from_data():
    k = torch.randint(3, (400, 6)).double()
    flow = LevelsFlow((6,), levels=8, num_couplings=2, num_components=1, channels=8)
    flow.initialise(k)
    v = ScaledSigmoid(8).inv(k + torch.rand(400, 6))
    y = flow.normalizer()(v)
    assert y.mean(0).abs().max() < 0.15 and (y.std(0) - 1).abs().max() < 0.15


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"levels": None}, "real data have no levels: give data of grey levels, with --levels"),
        ({"levels": 1}, "DequantizedFlow: levels must be an integer of at least 2, .*got 1"),
        ({"dequantizer": "none"}, "dequantizer must be 'uniform' or 'variational', got 'none'"),
        ({"data_size": 1}, "a coupling needs data of at least 2 dimensions, got 1"),
        ({"num_couplings": 3}, "num_couplings must be a positive even number"),
        ({"num_components": 0}, "num_components of a mixture coupling must be at least 1, got 0"),
        ({"channels": -1}, "channels must be 0, for dense networks, or positive, got -1"),
        ({"data_size": 49, "data_shape": (1, 7, 7)}, "images of 7 x 7 have no 2 x 2 blocks"),
    ],
)
def test_bad_input_is_refused(wrong, told):
    with pytest.raises(ValueError, match=told):
        dequantized_flow(**{"data_size": 6, "levels": 4, **wrong})


def test_a_flow_of_another_size_is_refused():
    program = DequantizedFlow(LevelsFlow((6,), levels=4), UniformDequantizer(4), 4)
    with pytest.raises(ValueError, match=r"event shape \(4,\) in the guide and \(6,\) in the model: make them equal$"):
        Loss(Pathwise(iwae, 2), program)(torch.zeros(3, 4))


def test_a_dequantizer_of_another_size_is_refused():
    program = DequantizedFlow(LevelsFlow((6,), levels=4), UniformDequantizer(4), 4)
    with pytest.raises(ValueError, match=r"noise of event shape \(4,\), and a datum has shape \(6,\) when flattened"):
        Loss(Pathwise(iwae, 2), program)(torch.zeros(3, 6))
