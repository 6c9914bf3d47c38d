"""Two stages: what is frozen stays bit-identical, buffers too, and the likelihood of the second stage is known."""

import copy

import pytest
import torch

from pplvm.evaluation.encoding import encode
from pplvm.evaluation.evaluate import evaluate
from pplvm.evaluation.likelihood import importance_sampled
from pplvm.objectives.biased import BiasedPathwise
from pplvm.objectives.objective import Loss
from pplvm.objectives.pathwise import AnalyticKL
from pplvm.objectives.penalized import Penalized
from pplvm.programs.over_codes import OverCodes
from pplvm.programs.pixelcnn_prior import PixelCNNPrior
from pplvm.programs.vq_vae import VQVAE, vq_vae
from pplvm.training.fit import fit
from pplvm.training.stages import train_only
from tests.seams.programs import TwoStages


def states(program, without="prior"):
    return {name: value.clone() for name, value in program.state_dict().items() if not name.startswith(without)}


def trained(program, tier="off", steps=20):
    torch.manual_seed(3)
    loss, x = Loss(AnalyticKL(), program), 2 + torch.randn(60, 4)
    train_only(program, "prior")
    learning = [p for p in program.parameters() if p.requires_grad]
    fit(loss, x, torch.optim.Adam(learning, lr=0.05), epochs=steps // 3, batch_size=20, compile=tier).run()
    return program, x


@pytest.mark.parametrize("tier", ["off", "graph"])
def test_the_rest_keeps_every_bit_and_the_part_learns(tier):
    program = TwoStages(4, learned_prior=True)
    before, prior = states(program), copy.deepcopy(program.prior.state_dict())
    trained(program, tier)
    after = states(program)
    assert any("num_batches_tracked" in name for name in before)
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert not torch.equal(program.prior.loc, prior["loc"]) and not torch.equal(
        program.prior.log_scale, prior["log_scale"]
    )


def test_without_it_buffers_and_weights_would_move():
    program = TwoStages(4, learned_prior=True)
    before = states(program)
    torch.manual_seed(3)
    loss, x = Loss(AnalyticKL(), program), 2 + torch.randn(60, 4)
    fit(loss, x, torch.optim.Adam(program.prior.parameters(), lr=0.05), epochs=2, batch_size=20, compile="off").run()
    moved = [name for name, value in states(program).items() if not torch.equal(before[name], value)]
    assert moved == ["encoder.1.running_mean", "encoder.1.running_var", "encoder.1.num_batches_tracked"]


def test_frozen_parts_stay_in_evaluation_mode_and_the_part_does_not():
    program = TwoStages(4, learned_prior=True)
    train_only(program, "prior")
    for again in (program.train, lambda: Loss(AnalyticKL(), program).train(), lambda: copy.deepcopy(program).train()):
        again()
        assert program.prior.training and not any(module.training for module in program.encoder.modules())
    assert {name for name, p in program.named_parameters() if p.requires_grad} == {"prior.loc", "prior.log_scale"}


def test_the_second_stage_approaches_the_aggregate_posterior_and_its_likelihood_is_known():
    """With encoder and decoder still, the elbo is highest where the prior is the normal of q(z)'s moments."""
    program, x = trained(TwoStages(4, learned_prior=True), "graph", steps=400)
    loc, log_scale = program.eval().encoder(x).chunk(2, dim=-1)
    mean = loc.mean(0)
    variance = (loc - mean).square().mean(0) + (2 * log_scale).exp().mean(0)
    torch.testing.assert_close(program.prior.loc, mean, atol=0.02, rtol=0)
    torch.testing.assert_close((2 * program.prior.log_scale).exp(), variance, rtol=0.05, atol=0)
    found = importance_sampled(program, x[:5], ks=(1, 3000))
    truth = program.log_evidence_known(x[:5]).detach()
    assert ((found.log_p[:, -1] - truth).abs() < 5 * found.error[:, -1] + 1e-3).all()
    names = [figure.name for figure in evaluate(program, x[:5], ks=(1, 10)).sections["likelihood"]]
    assert any("log p(x)" in name for name in names)


@pytest.mark.parametrize("part", ["priro", "prior.locc"])
def test_a_part_that_is_not_there_is_told(part):
    with pytest.raises((ValueError, LookupError), match="prior"):
        train_only(TwoStages(4, learned_prior=True), part)


@pytest.mark.parametrize("tier", ["off", "graph"])
def test_a_prior_learns_the_same_on_codes_that_are_computed_once(tier):
    torch.manual_seed(3)
    x = torch.bernoulli(torch.full((60, 1, 4, 4), 0.3))
    first = vq_vae(16, (2, 2), 4, 3, (5,))
    weights = []
    for is_encoded in (False, True):
        torch.manual_seed(4)
        prior = PixelCNNPrior(4, (2, 2), channels=4, kernel_sizes=(3, 3))
        whole = VQVAE(first.encoder, first.codebook, first.decoder, first.likelihood, prior)
        train_only(whole, "prior")
        codes = encode(whole, iter(x.split(25)))
        program = OverCodes(whole, codes.sites, codes.penalties) if is_encoded else whole
        data = (codes.index, codes.terms) if is_encoded else x
        loss = Loss(Penalized(BiasedPathwise(), {"commitment": 0.25}), program)
        optimizer = torch.optim.Adam(prior.parameters(), lr=0.01, fused=True)
        torch.manual_seed(5)
        losses = fit(loss, data, optimizer, epochs=3, batch_size=20, compile=tier).run()
        weights.append([losses, *(p.detach() for p in prior.parameters())])
    assert losses[-1] < losses[0]
    for one, other in zip(*weights, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)
