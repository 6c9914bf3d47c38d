"""What every program of the library keeps: one entry in PROGRAMS makes all of these tests its own."""

import pyro
import pytest
import torch
from pyro import poutine
from torch import nn

from pplvm.bounds import elbo, iwae
from pplvm.networks.dense import MLP
from pplvm.objectives.biased import BiasedPathwise
from pplvm.objectives.objective import Loss
from pplvm.objectives.pathwise import AnalyticKL, Pathwise
from pplvm.objectives.penalized import Penalized
from pplvm.objectives.score_function import LeaveOneOut
from pplvm.particles.draw import draw_particles
from pplvm.particles.pair import inspect_pair
from pplvm.programs.code_priors import code_prior_named
from pplvm.programs.conv_hierarchical_vae import conv_hierarchical_vae
from pplvm.programs.delta_vae import DeltaVAE
from pplvm.programs.dequantized_flow import dequantized_flow
from pplvm.programs.diffusion_prior import diffusion_prior
from pplvm.programs.flow_prior_vae import flow_prior_vae
from pplvm.programs.guides import FullCovariance, SemiAmortized
from pplvm.programs.hierarchical_vae import hierarchical_vae
from pplvm.programs.hyperspherical_vae import HypersphericalVAE
from pplvm.programs.iaf_vae import iaf_vae
from pplvm.programs.mixture import MixtureOfGaussians
from pplvm.programs.mixture_priors import MixtureOfGaussiansPrior
from pplvm.programs.parts import GaussianLikelihood, StandardNormal, bernoulli
from pplvm.programs.pixelcnn_likelihood import PixelCNNLikelihood
from pplvm.programs.pixelcnn_prior import PixelCNNPrior
from pplvm.programs.ppca import ProbabilisticPCA
from pplvm.programs.sigmoid_belief import SigmoidBeliefNet
from pplvm.programs.sq_vae import sq_vae
from pplvm.programs.vae import VAE
from pplvm.programs.vamp_vae import vamp_vae
from pplvm.programs.vlae import vlae
from pplvm.programs.vq_vae import vq_vae
from pplvm.programs.vq_vae_2 import vq_vae_2

B, D = 4, 6


def binary():
    return torch.bernoulli(torch.full((B, D), 0.5))


def real():
    return torch.randn(B, D)


def grey():
    return torch.randint(5, (B, D)) / 4


def of_parts():
    networks = {"encoder": nn.Sequential(nn.Flatten(1), MLP(D, 4)), "decoder": MLP(2, D)}
    return VAE(**networks, likelihood=GaussianLikelihood(), prior=StandardNormal(2))


def moved(program):
    """Parameters off their start, where a layer of zeros lets no gradient through."""
    with torch.no_grad():
        for parameter in program.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return program


def full_covariance():
    head = FullCovariance(2)
    return VAE(D, 2, (5,), encoder=nn.Sequential(nn.Flatten(1), MLP(D, head.input_size, (5,)), head))


def semi_amortized():
    parts = {"decoder": MLP(2, D), "likelihood": bernoulli, "prior": StandardNormal(2)}
    encoder = nn.Sequential(nn.Flatten(1), MLP(D, 4))
    return VAE(encoder=SemiAmortized(encoder, **parts, latent_size=2, num_steps=2), **parts)


def vector_quantized():
    return Penalized(BiasedPathwise(), {"commitment": 0.25, "codebook": 1.0})


def under_pixelcnn():
    program = vq_vae(D, (2, 2), 3, 2, (5,), posterior="stochastic")
    program.prior = PixelCNNPrior(3, (2, 2), channels=4, kernel_sizes=(3, 3))
    return moved(program)


def under(name):
    program = vq_vae(D, (2, 2), 3, 2, (5,), posterior="stochastic")
    program.prior = code_prior_named(name, (2, 2), 3, width=4, num_layers=2, num_heads=2)
    return moved(program)


def pixel_vae():
    likelihood = PixelCNNLikelihood((2, 3), 3, 4, (3,))
    return moved(VAE(D, 2, (5,), likelihood, decoder=nn.Sequential(MLP(2, 18), nn.Unflatten(-1, (3, 2, 3)))))


MEAN = torch.linspace(0, 1, D, dtype=torch.float64)

PROGRAMS = {
    "sbn": (lambda: SigmoidBeliefNet(D, (3,)), binary, LeaveOneOut(iwae, 2)),
    "sbn, three layers": (lambda: SigmoidBeliefNet(D, (2, 3, 4)), binary, LeaveOneOut(elbo, 3)),
    "sbn, hidden": (
        lambda: SigmoidBeliefNet(D, (2, 3), (5, 7), data_mean=MEAN),
        binary,
        LeaveOneOut(elbo, 2),
    ),
    "ppca": (lambda: ProbabilisticPCA(D, 2, data_mean=MEAN), real, Pathwise(iwae, 2)),
    "vae": (lambda: VAE(D, 2, (5,)), binary, Pathwise(iwae, 2)),
    "vae, gaussian": (lambda: VAE(D, 2, (5, 7), "gaussian", data_mean=MEAN), real, Pathwise(elbo, 1)),
    "vae, of parts": (of_parts, real, Pathwise(iwae, 2)),
    "hierarchical vae": (lambda: moved(hierarchical_vae(D, (2, 3), 5, data_mean=MEAN)), binary, AnalyticKL(2)),
    "hierarchical vae, ladder": (
        lambda: moved(hierarchical_vae(D, (2, 3), 5, precision_weighted=True)),
        binary,
        AnalyticKL(2),
    ),
    "hierarchical vae, six groups": (
        lambda: moved(hierarchical_vae(D, (1,) * 6, 4, "gaussian", num_blocks=2)),
        real,
        Pathwise(elbo, 1),
    ),
    "conv hierarchical vae": (
        lambda: moved(conv_hierarchical_vae((1, 2, 3), (2,), 1, 4, data_mean=MEAN)),
        binary,
        Pathwise(iwae, 2),
    ),
    "iaf-vae": (lambda: moved(iaf_vae(D, 3, (5,), data_mean=MEAN, flow_hidden_sizes=(4,))), binary, Pathwise(iwae, 2)),
    "iaf-vae, gaussian": (
        lambda: moved(iaf_vae(D, 2, (), "gaussian", flow_hidden_sizes=(4, 3))),
        real,
        Pathwise(elbo, 1),
    ),
    "vlae": (lambda: moved(vlae(D, 3, (5, 4), data_mean=MEAN, flow_hidden_sizes=(4,))), binary, Pathwise(iwae, 2)),
    "vae, vamp": (lambda: vamp_vae(D, 2, (5,), num_components=3), binary, Pathwise(iwae, 2)),
    "vae, mixture": (lambda: VAE(D, 2, prior=MixtureOfGaussiansPrior(2, 3)), binary, Pathwise(elbo, 2)),
    "vae, delta": (lambda: DeltaVAE(D, 4, (5,), alpha=0.5, length=2), binary, Pathwise(iwae, 2)),
    "vae, full covariance": (full_covariance, binary, Pathwise(iwae, 2)),
    "vae, semi-amortized": (semi_amortized, binary, Pathwise(iwae, 2)),
    "hyperspherical": (lambda: HypersphericalVAE(D, 3, (5,), data_mean=MEAN), binary, Pathwise(iwae, 2)),
    "hyperspherical, grey": (
        lambda: HypersphericalVAE(D, 4, (5,), "discretized-logistic", MEAN, 5, concentration=None),
        grey,
        Pathwise(iwae, 2),
    ),
    "flow-prior-vae": (
        lambda: moved(flow_prior_vae(D, 2, (5,), num_couplings=2, flow_hidden_sizes=(4,))),
        binary,
        Pathwise(iwae, 2),
    ),
    "diffusion-prior": (lambda: moved(diffusion_prior(D, 2, (5,), num_steps=3)), binary, Pathwise(elbo, 2)),
    "diffusion-prior, chain": (
        lambda: moved(diffusion_prior(D, 2, (5,), "gaussian", num_steps=3, estimate="chain")),
        real,
        Pathwise(iwae, 2),
    ),
    "dequantized-flow": (
        lambda: moved(dequantized_flow(D, 2, dequantizer="variational", num_couplings=2, num_components=2, channels=4)),
        binary,
        Pathwise(iwae, 2),
    ),
    "vq-vae": (
        lambda: vq_vae(D, (1, 2), 4, 3, (5,), data_mean=MEAN),
        binary,
        Penalized(BiasedPathwise(num_particles=2), {"commitment": 0.25, "codebook": 1.0}),
    ),
    "vq-vae, stochastic": (
        lambda: vq_vae(D, (1, 2), 4, 3, (5,), likelihood="gaussian", posterior="stochastic"),
        real,
        LeaveOneOut(iwae, 3),
    ),
    "sq-vae": (lambda: sq_vae(D, (1, 2), 4, 3, (5,), data_mean=MEAN), binary, LeaveOneOut(elbo, 3)),
    "vq-vae-2": (lambda: moved(vq_vae_2((1, 2, 3), (1, 2), (1, 1), 3, 2, 4)), binary, vector_quantized()),
    "vq-vae under a PixelCNN": (under_pixelcnn, binary, LeaveOneOut(elbo, 4)),
    "vq-vae under a transformer": (lambda: under("transformer"), binary, LeaveOneOut(elbo, 4)),
    "vq-vae under absorbing diffusion": (lambda: under("absorbing-exact"), binary, LeaveOneOut(iwae, 4)),
    "vq-vae under one step of it": (lambda: under("absorbing"), binary, LeaveOneOut(elbo, 4)),
    "pixel-vae": (pixel_vae, binary, Pathwise(iwae, 2)),
    "mixture": (lambda: MixtureOfGaussians(D, 3), real, LeaveOneOut(elbo, 4)),
}


@pytest.fixture(params=PROGRAMS)
def case(request):
    make, data, objective = PROGRAMS[request.param]
    return make, data(), objective


@pytest.mark.parametrize("K", [1, 3])
def test_log_weights_are_particles_by_batch(case, K):
    make, x, _ = case
    found = draw_particles((program := make()).model, program.guide, x, num_particles=K)
    for term in (found.log_p, found.log_q, found.log_q_score, *found.log_p_sites.values()):
        assert term.shape == (K, B) and term.isfinite().all()
    assert found.scale == 1.0


def test_nothing_is_broken(case):
    make, x, _ = case
    program = make()
    assert inspect_pair(program.model, program.guide, (x,), {})[2] == []


def test_every_parameter_gets_a_gradient(case):
    make, x, objective = case
    loss = Loss(objective, make())
    loss(x).backward()
    for name, parameter in loss.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_images_are_flattened(case):
    make, x, _ = case
    program = make()
    torch.manual_seed(1)
    flat = draw_particles(program.model, program.guide, x, num_particles=2).log_weights
    torch.manual_seed(1)
    images = x.reshape(B, 1, 2, D // 2)
    torch.testing.assert_close(draw_particles(program.model, program.guide, images, num_particles=2).log_weights, flat)


def test_unconditioned_the_model_draws_data(case):
    make, x, _ = case
    trace = poutine.trace(poutine.uncondition(make().model)).get_trace(x)
    drawn = trace.nodes["x"]
    assert not drawn["is_observed"] and drawn["value"].shape == (B, D)
    assert not torch.equal(drawn["value"], x)
    assert drawn["fn"].support.check(drawn["value"]).all()


def test_a_state_dict_is_all_that_a_program_is(case):
    make, x, _ = case
    program, other = make(), make()
    with torch.no_grad():
        for parameter in program.parameters():
            parameter.copy_(torch.randn_like(parameter))
    other.load_state_dict(program.state_dict())
    found = []
    for each in (program, other):
        torch.manual_seed(2)
        found.append(draw_particles(each.model, each.guide, x, num_particles=2).log_weights)
    assert torch.equal(*found)


def test_no_parameter_goes_to_the_global_store(case):
    make, x, objective = case
    Loss(objective, make())(x)
    assert not list(pyro.get_param_store().keys())


def test_float32_stays_float32(case):
    make, x, _ = case
    program = make().float()
    torch.set_default_dtype(torch.float32)
    try:
        found = draw_particles(program.model, program.guide, x.float(), num_particles=2).log_weights
    finally:
        torch.set_default_dtype(torch.float64)
    assert found.dtype is torch.float32
