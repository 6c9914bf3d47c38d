"""Every evaluator and every picture on the accelerator, with the CPU's numbers."""

import pytest
import torch

from pplvm.evaluation.active_units import active_units
from pplvm.evaluation.annealing.annealed import annealed
from pplvm.evaluation.annealing.bidirectional import bidirectional
from pplvm.evaluation.code_usage import code_usage
from pplvm.evaluation.encoding import encode
from pplvm.evaluation.evaluate import evaluate
from pplvm.evaluation.evidence import log_evidence
from pplvm.evaluation.information import aggregate_posterior
from pplvm.evaluation.information_bounds import barber_agakov, info_nce, info_nce_of_dreams
from pplvm.evaluation.likelihood import bits_per_dim, importance_sampled
from pplvm.evaluation.rate_distortion import rate_distortion
from pplvm.evaluation.rejection import best_ranked_samples, rejection_samples
from pplvm.evaluation.samples import interpolations, prior_samples, reconstructions
from pplvm.evaluation.traversals import traversals
from pplvm.programs.ppca import ProbabilisticPCA
from pplvm.programs.sigmoid_belief import SigmoidBeliefNet
from pplvm.programs.vae import VAE
from pplvm.programs.vq_vae import vq_vae
from tests.programs.convolutional import convolutional, images

B, D = 4, 6


def binary():
    return torch.bernoulli(torch.full((B, D), 0.5))


PROGRAMS = {
    "vae": (lambda: VAE(D, 2, (5,)), binary),
    "belief net": (lambda: SigmoidBeliefNet(D, (2, 3)), binary),
    "ppca": (lambda: ProbabilisticPCA(D, 2), lambda: torch.randn(B, D)),
    "convolutional": (convolutional, lambda: images(B)),
}

EVALUATORS = {
    "importance sampled": lambda program, x: importance_sampled(program, x, ks=(1, 4), compile="off"),
    "importance sampled, one graph": lambda program, x: importance_sampled(program, x, ks=(1, 4), compile="graph"),
    "log evidence": lambda program, x: log_evidence(program, x),
    "bits per dim": lambda program, x: bits_per_dim(x.flatten(1).sum(1), 6, discrete=True),
    "rates": lambda program, x: rate_distortion(program, x, num_particles=4, compile="off"),
    "information": lambda program, x: aggregate_posterior(program, x),
    "barber-agakov": lambda program, x: barber_agakov(program, x, draws=8),
    "info-nce": lambda program, x: info_nce(program, x, batch=2),
    "info-nce of dreams": lambda program, x: info_nce_of_dreams(program, x, batch=2, batches=2),
    "units": lambda program, x: active_units(program, x, num_particles=2),
    "annealed": lambda program, x: annealed(program, x[:2], chains=2, steps=3),
    "bidirectional": lambda program, x: bidirectional(program, x[:1], data=2, chains=2, steps=3),
    "samples": lambda program, x: prior_samples(program, x[:1], 3),
    "samples at a temperature": lambda program, x: prior_samples(program, x[:1], 3, temperature=0.5),
    "accepted samples": lambda program, x: rejection_samples(program, x[:1], near_half, 3),
    "best-ranked samples": lambda program, x: best_ranked_samples(program, x[:1], near_half, 3, share=0.5),
    "reconstructions": lambda program, x: reconstructions(program, x),
    "interpolations": lambda program, x: interpolations(program, x[:2], x[2:4], 3),
    "traversals": lambda program, x: traversals(program, x[:1], program_site(program), units=[0, 1]),
}


def near_half(x, *conditions):
    return (1 - (x.flatten(1).mean(1) - 0.5).abs()).clamp(0, 1)


def program_site(program):
    return "z_1" if isinstance(program, SigmoidBeliefNet) else "z"


def check(accelerator, name, evaluator):
    make, data = PROGRAMS[name]

    def on(device):
        program, x = make().to(device), data().to(device)
        found = EVALUATORS[evaluator](program, x)
        if isinstance(found, torch.Tensor):
            assert found.device.type == device.type
        return found

    return accelerator.same(on)


@pytest.mark.parametrize("evaluator", EVALUATORS)
def test_an_evaluator_on_a_vae(accelerator, evaluator):
    check(accelerator, "vae", evaluator)


@pytest.mark.parametrize(
    "evaluator", ["importance sampled", "log evidence", "annealed", "reconstructions", "traversals"]
)
def test_an_evaluator_on_a_belief_net(accelerator, evaluator):
    check(accelerator, "belief net", evaluator)


GIVEN_LABELS = {
    "importance sampled": lambda program, *batch: importance_sampled(program, batch, ks=(1, 4), compile="graph"),
    "information": lambda program, *batch: aggregate_posterior(program, batch),
    "annealed": lambda program, x, y: annealed(program, (x[:2], y[:2]), chains=2, steps=3),
    "samples": lambda program, x, y: prior_samples(program, (x[:2], y[:2]), 2),
    "accepted samples": lambda program, x, y: rejection_samples(program, (x[:2], y[:2]), near_half, 3),
    "best-ranked samples": lambda program, x, y: best_ranked_samples(program, (x[:2], y[:2]), near_half, 3, share=0.5),
    "reconstructions": lambda program, *batch: reconstructions(program, batch),
}


OF_CODES = {
    "encoding": lambda program, x: encode(program, iter(x.split(2))),
    "usage": lambda program, x: code_usage(program, x),
    "log evidence": lambda program, x: log_evidence(program, x),
    "importance sampled": lambda program, x: importance_sampled(program, x, ks=(1, 4), compile="off"),
    "rates": lambda program, x: rate_distortion(program, x, num_particles=2, compile="off"),
    "samples at a temperature": lambda program, x: prior_samples(program, x[:1], 2, temperature=0.5),
}


@pytest.mark.parametrize("evaluator", OF_CODES)
def test_an_evaluator_of_codes(accelerator, evaluator):
    def on(device):
        x = torch.bernoulli(torch.full((B, 6), 0.5))
        program = vq_vae(6, (1, 2), 3, 2, (5,), prior="transformer")
        return OF_CODES[evaluator](program.to(device), x.to(device))

    accelerator.same(on)


@pytest.mark.parametrize("evaluator", GIVEN_LABELS)
def test_an_evaluator_given_labels(accelerator, evaluator):
    def on(device):
        program, x, y = convolutional(num_classes=3), images(B), torch.arange(B) % 3
        return GIVEN_LABELS[evaluator](program.to(device), x.to(device), y.to(device))

    accelerator.same(on)


@pytest.mark.slow
@pytest.mark.parametrize("evaluator", EVALUATORS)
@pytest.mark.parametrize("name", ["ppca", "convolutional", "belief net"])
def test_every_evaluator_on_every_program(accelerator, name, evaluator):
    check(accelerator, name, evaluator)


@pytest.mark.slow
def test_the_whole_evaluation(accelerator):
    def on(device):
        program, x = VAE(D, 2, (5,)).to(device), binary().to(device)
        found = evaluate(program, x, ks=(1, 4), annealed_data=2, chains=2, annealing_steps=3, compile="off")
        return [str(each) for section in found.sections.values() for each in section if "s)" not in str(each)]

    accelerator.same(on)
