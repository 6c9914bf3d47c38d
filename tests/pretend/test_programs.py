"""Every program on the accelerator: log-weights, gradients, samples, and one graph, as on the CPU."""

import pytest
import torch
from torch import nn

from pplvm.bounds import elbo, iwae
from pplvm.graphs.compiled import compiled
from pplvm.networks.classifier import ImageClassifier
from pplvm.networks.dense import MLP
from pplvm.networks.feature_distance import FeatureDistance
from pplvm.objectives.biased import BiasedPathwise
from pplvm.objectives.objective import Loss
from pplvm.objectives.pathwise import AnalyticKL, Pathwise
from pplvm.objectives.penalized import Penalized
from pplvm.objectives.score_function import LeaveOneOut
from pplvm.particles.draw import draw_particles
from pplvm.programs.code_priors import code_prior_named
from pplvm.programs.conv_hierarchical_vae import conv_hierarchical_vae
from pplvm.programs.conv_vae import conv_vae
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
from pplvm.programs.over_codes import OverCodes
from pplvm.programs.parts import GaussianLikelihood, StandardNormal, bernoulli
from pplvm.programs.perceptual import Perceptual
from pplvm.programs.pixelcnn_likelihood import PixelCNNLikelihood
from pplvm.programs.pixelcnn_prior import ClassConditionalPixelCNNPrior, PixelCNNPrior
from pplvm.programs.ppca import ProbabilisticPCA
from pplvm.programs.sigmoid_belief import SigmoidBeliefNet
from pplvm.programs.sq_vae import sq_vae
from pplvm.programs.vae import VAE
from pplvm.programs.vamp_vae import vamp_vae
from pplvm.programs.vlae import vlae
from pplvm.programs.vq_vae import vq_vae
from pplvm.programs.vq_vae_2 import vq_vae_2
from tests.pretend.accelerator import gradients
from tests.programs.convolutional import convolutional, images

B, D = 4, 6
MEAN = torch.linspace(0, 1, D, dtype=torch.float64)


def binary():
    return (torch.bernoulli(torch.full((B, D), 0.5)),)


def real():
    return (torch.randn(B, D),)


def full_covariance():
    head = FullCovariance(2)
    return VAE(D, 2, (5,), encoder=nn.Sequential(MLP(D, head.input_size, (5,)), head))


def semi_amortized():
    parts = {"decoder": MLP(2, D), "likelihood": bernoulli, "prior": StandardNormal(2)}
    return VAE(encoder=SemiAmortized(MLP(D, 4), **parts, latent_size=2, num_steps=2), **parts)


def under_pixelcnn(num_classes=None):
    program, sizes = vq_vae(D, (1, 2), 3, 2, (5,)), {"channels": 4, "kernel_sizes": (3, 3)}
    of_classes = lambda: ClassConditionalPixelCNNPrior(3, (1, 2), num_classes, **sizes)
    program.prior = of_classes() if num_classes else PixelCNNPrior(3, (1, 2), **sizes)
    return program


def under(name, num_classes=None):
    program = vq_vae(D, (1, 2), 3, 2, (5,))
    program.prior = code_prior_named(name, (1, 2), 3, num_classes, width=4, num_layers=1, num_heads=2)
    return program


def pixel_vae():
    likelihood = PixelCNNLikelihood((2, 3), 3, 4, (3,), pixel_dropout=0.3)
    return VAE(D, 2, (5,), likelihood, decoder=nn.Sequential(MLP(2, 18), nn.Unflatten(-1, (3, 2, 3))))


def perceptual():
    distance = FeatureDistance(ImageClassifier((1, 4, 4), 3, channels=(3, 4), hidden_size=5).features)
    return Perceptual(vq_vae(16, (1, 2), 4, 3, (5,)), distance)


PROGRAMS = {
    "belief net": (lambda: SigmoidBeliefNet(D, (2, 3), (5,), MEAN), binary, LeaveOneOut(iwae, 2)),
    "ppca": (lambda: ProbabilisticPCA(D, 2, MEAN), real, Pathwise(iwae, 2)),
    "vae": (lambda: VAE(D, 2, (5,), data_mean=MEAN), binary, Pathwise(iwae, 2)),
    "gaussian vae": (lambda: VAE(D, 2, (5,), "gaussian"), real, Pathwise(elbo, 1)),
    "composed": (lambda: VAE(D, 2, (5,), GaussianLikelihood()), real, Pathwise(elbo, 2)),
    "hierarchical vae": (
        lambda: hierarchical_vae(D, (2, 1), 4, data_mean=MEAN, spectral_norm=True),
        binary,
        AnalyticKL(num_particles=2),
    ),
    "hierarchical vae of maps": (
        lambda: conv_hierarchical_vae((1, 8, 8), (1, 1), 1, 4),
        lambda: (images(B),),
        Pathwise(iwae, 2),
    ),
    "iaf-vae": (lambda: iaf_vae(D, 2, (5,), data_mean=MEAN, flow_hidden_sizes=(4,)), binary, Pathwise(iwae, 2)),
    "vlae": (lambda: vlae(D, 2, (5,), data_mean=MEAN, flow_hidden_sizes=(4,)), binary, Pathwise(iwae, 2)),
    "hyperspherical": (lambda: HypersphericalVAE(D, 3, (5,), data_mean=MEAN), binary, Pathwise(iwae, 2)),
    "hyperspherical, grey": (
        lambda: HypersphericalVAE(D, 4, (5,), "discretized-logistic", MEAN, 5, concentration=None),
        lambda: (torch.randint(5, (B, D)) / 4,),
        Pathwise(iwae, 2),
    ),
    "vq-vae": (
        lambda: vq_vae(D, (1, 2), 4, 3, (5,), data_mean=MEAN),
        binary,
        Penalized(BiasedPathwise(num_particles=2), {"commitment": 0.25, "codebook": 1.0}),
    ),
    "vq-vae, moving average from k-means": (
        lambda: vq_vae(
            D, (1, 2), 4, 3, (5,), codebook="moving-average", initial_codes="k-means", data_examples=torch.rand(30, D)
        ),
        binary,
        Penalized(BiasedPathwise(num_particles=2), {"commitment": 0.25}),
    ),
    "vq-vae, perceptual": (
        perceptual,
        lambda: (torch.bernoulli(torch.full((B, 1, 4, 4), 0.5)),),
        Penalized(BiasedPathwise(num_particles=2), {"perceptual": 0.3, "commitment": 0.25}),
    ),
    "vq-vae, stochastic": (
        lambda: vq_vae(D, (1, 2), 4, 3, (5,), posterior="stochastic"),
        binary,
        LeaveOneOut(iwae, 2),
    ),
    "vq-vae of maps": (
        lambda: vq_vae(64, channels=(4, 6), data_shape=(1, 8, 8), posterior="rotation", data_mean=torch.rand(64)),
        lambda: (images(B),),
        BiasedPathwise(num_particles=2),
    ),
    "vq-vae, over codes": (
        lambda: OverCodes(vq_vae(D, (1, 2), 4, 3, (5,), prior="transformer"), {"codes": (2, 4)}, ()),
        lambda: (torch.arange(2 * B).reshape(B, 2) % 4, -torch.rand(B, 1)),
        BiasedPathwise(num_particles=2),
    ),
    "sq-vae": (lambda: sq_vae(D, (1, 2), 4, 3, (5,), data_mean=MEAN), binary, LeaveOneOut(elbo, 3)),
    "vq-vae-2": (
        lambda: vq_vae_2((1, 8, 8), num_codes=4, channels=8, data_mean=torch.rand(64)),
        lambda: (images(B),),
        Penalized(BiasedPathwise(), {"commitment": 0.25, "codebook": 1.0}),
    ),
    "vq-vae-2, pixelcnn by class": (
        lambda: vq_vae_2((1, 8, 8), num_codes=4, channels=8, prior="pixelcnn", prior_width=4, num_classes=3),
        lambda: (images(B), torch.arange(B) % 3),
        Penalized(BiasedPathwise(), {"commitment": 0.25, "codebook": 1.0}),
    ),
    "vq-vae-2, transformer by class": (
        lambda: vq_vae_2((1, 8, 8), num_codes=4, channels=8, prior="transformer", prior_width=4, num_classes=3),
        lambda: (images(B), torch.arange(B) % 3),
        Penalized(BiasedPathwise(), {"commitment": 0.25, "codebook": 1.0}),
    ),
    "mixture": (lambda: MixtureOfGaussians(D, 3), real, LeaveOneOut(elbo, 3)),
    "flow-prior-vae": (
        lambda: flow_prior_vae(D, 2, (5,), data_mean=MEAN, num_couplings=2, flow_hidden_sizes=(4,)),
        binary,
        Pathwise(iwae, 2),
    ),
    "diffusion-prior": (lambda: diffusion_prior(D, 2, (5,), data_mean=MEAN, num_steps=3), binary, Pathwise(elbo, 2)),
    "diffusion-prior, chain": (
        lambda: diffusion_prior(D, 2, (5,), "gaussian", MEAN, num_steps=3, estimate="chain"),
        real,
        Pathwise(iwae, 2),
    ),
    "dequantized-flow": (
        lambda: dequantized_flow(D, 2, None, torch.rand(5, D).round(), "variational", 2, 2, 4),
        binary,
        Pathwise(iwae, 2),
    ),
    "conv-vae": (
        lambda: conv_vae((1, 8, 8), 2, (4, 6), data_mean=torch.rand(64)),
        lambda: (images(B),),
        Pathwise(iwae, 3),
    ),
    "vamp": (lambda: vamp_vae(D, 2, (5,), num_components=3, data_mean=MEAN), binary, Pathwise(iwae, 2)),
    "mixture prior": (lambda: VAE(D, 2, prior=MixtureOfGaussiansPrior(2, 3)), binary, Pathwise(elbo, 2)),
    "delta": (lambda: DeltaVAE(D, 4, (5,), alpha=0.5, length=2, data_mean=MEAN), binary, Pathwise(iwae, 2)),
    "full covariance": (full_covariance, binary, Pathwise(iwae, 2)),
    "semi-amortized": (semi_amortized, binary, Pathwise(iwae, 2)),
    "vq-vae under a PixelCNN": (under_pixelcnn, binary, BiasedPathwise(iwae, 2)),
    "vq-vae under a PixelCNN, with labels": (
        lambda: under_pixelcnn(3),
        lambda: (*binary(), torch.arange(B) % 3),
        BiasedPathwise(iwae, 2),
    ),
    "vq-vae under a transformer, with labels": (
        lambda: under("transformer", 3),
        lambda: (*binary(), torch.arange(B) % 3),
        BiasedPathwise(iwae, 2),
    ),
    "vq-vae under absorbing diffusion": (lambda: under("absorbing-exact"), binary, BiasedPathwise(iwae, 2)),
    "vq-vae under one step of it, with labels": (
        lambda: under("absorbing", 3),
        lambda: (*binary(), torch.arange(B) % 3),
        BiasedPathwise(elbo, 2),
    ),
    "pixel-vae": (pixel_vae, binary, Pathwise(iwae, 2)),
    "convolutional": (convolutional, lambda: (images(B),), Pathwise(iwae, 3)),
    "convolutional, with labels": (
        lambda: convolutional(num_classes=3),
        lambda: (images(B), torch.arange(B) % 3),
        Pathwise(iwae, 3),
    ),
}


@pytest.fixture(params=PROGRAMS)
def case(request):
    return PROGRAMS[request.param]


def test_draws_and_gradients(accelerator, case):
    make, data, objective = case

    def on(device):
        program, batch = make().to(device), [part.to(device) for part in data()]
        found = draw_particles(program.model, program.guide, *batch, num_particles=3)
        loss = Loss(objective, program)
        value = loss(*batch)
        value.backward()
        assert found.log_p.device.type == value.device.type == device.type
        return found.log_p, found.log_q, value, gradients(loss, device)

    accelerator.same(on)


def test_one_made_on_the_device_lies_there(accelerator, case):
    """Also where what the data know, their mean, lies on the CPU."""
    make, data, objective = case
    batch = data()
    with accelerator() as device:
        with device:
            program = make()
        assert {each.device.type for each in program.state_dict().values()} == {device.type}
        assert Loss(objective, program)(*[part.to(device) for part in batch]).isfinite()


@pytest.mark.parametrize(
    "name",
    [
        "belief net",
        pytest.param("vae", marks=pytest.mark.slow),
        pytest.param("hierarchical vae", marks=pytest.mark.slow),
        pytest.param("iaf-vae", marks=pytest.mark.slow),
        pytest.param("vlae", marks=pytest.mark.slow),
        pytest.param("flow-prior-vae", marks=pytest.mark.slow),
        pytest.param("dequantized-flow", marks=pytest.mark.slow),
        pytest.param("vq-vae", marks=pytest.mark.slow),
        pytest.param("vq-vae of maps", marks=pytest.mark.slow),
        pytest.param("vq-vae under a PixelCNN", marks=pytest.mark.slow),
        pytest.param("diffusion-prior", marks=pytest.mark.slow),
        pytest.param("convolutional, with labels", marks=pytest.mark.slow),
    ],
)
def test_one_graph(accelerator, name):
    make, data, objective = PROGRAMS[name]

    def on(device):
        program, batch = make().to(device), [part.to(device) for part in data()]
        loss = compiled(Loss(objective, program), "graph")
        loss(*batch).backward()
        program.zero_grad()
        value = loss(*[part.flip(0) for part in batch])
        value.backward()
        return value, gradients(loss, device)

    accelerator.same(on)
