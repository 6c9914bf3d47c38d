"""The PixelCNN as a prior over codes, what it shares with others in test_code_priors.py: sums, maps, programs."""

import itertools
import math

import pytest
import torch
from torch import nn
from torch.distributions import OneHotCategorical
from torch.nn.functional import one_hot

from pplvm.bounds import elbo, iwae
from pplvm.evaluation.evidence import log_evidence
from pplvm.graphs.compiled import compiled
from pplvm.networks.pixelcnn import PixelCNN
from pplvm.objectives.biased import BiasedPathwise
from pplvm.objectives.control_variates import REBAR
from pplvm.objectives.objective import Loss
from pplvm.objectives.score_function import LeaveOneOut
from pplvm.particles.draw import draw_particles
from pplvm.programs.pixelcnn_prior import ClassConditionalPixelCNNPrior, PixelCNNPrior, codes_by
from pplvm.programs.vq_vae import vq_vae


def every_grid(N, K):
    """All K^N grids of codes, (K^N, N, K)."""
    return one_hot(torch.tensor(list(itertools.product(range(K), repeat=N))), K).double()


def awake(prior, std=0.4):
    for parameter in prior.parameters():
        nn.init.normal_(parameter, std=std)
    return prior.eval()


SMALL = {"channels": 8, "kernel_sizes": (3, 3)}


@pytest.mark.parametrize("grid, K", [((2, 2), 8), ((2, 3), 4), ((3, 4), 2), ((1, 4), 5)])
def test_it_sums_to_one(grid, K):
    values = every_grid(grid[0] * grid[1], K)
    log_prob = awake(PixelCNNPrior(K, grid, **SMALL))().log_prob(values).detach()
    assert float(log_prob.exp().sum()) == pytest.approx(1.0, abs=1e-6)
    assert log_prob.std() > 0.1


def test_it_sums_to_one_for_each_class():
    prior = awake(ClassConditionalPixelCNNPrior(3, (2, 2), 4, **SMALL))
    values, labels = every_grid(4, 3), torch.arange(4)
    log_prob = prior(labels).log_prob(values[:, None])  # (81, 4)
    torch.testing.assert_close(log_prob.exp().sum(0), torch.ones(4), rtol=0, atol=1e-6)
    assert log_prob.std(1).max() > 0.1, "the classes differ"


class SeesItself(PixelCNN):
    """Of which each output sees its own input too."""

    def forward(self, v, context=None):
        return super().forward(v, context) + v


def test_one_that_sees_the_code_at_hand_is_none():
    values = every_grid(4, 3)
    log_prob = codes_by(SeesItself(3, 3, (2, 2), 8, (3,))).log_prob(values).detach()
    assert float(log_prob.exp().sum()) > 1.1


def test_it_starts_at_n_log_k_nats():
    values = every_grid(4, 3)
    for prior in (PixelCNNPrior(3, (2, 2))(), ClassConditionalPixelCNNPrior(3, (2, 2), 2)(torch.tensor(1))):
        torch.testing.assert_close(
            prior.log_prob(values), torch.full((81,), -4 * math.log(3)).double(), rtol=0, atol=1e-12
        )


def test_a_map_is_a_condition_as_well_in_its_place():
    """Of the bottom grid given the top one, say."""
    network = awake(PixelCNN(3, 3, (2, 2), 8, (3, 3), context_channels=2))
    maps = torch.randn(5, 2, 2, 2)
    given = codes_by(network, network.project(maps))
    assert given.batch_shape == (5,)
    values = every_grid(4, 3)
    log_prob = given.log_prob(values[:, None]).detach()  # (81, 5)
    torch.testing.assert_close(log_prob.exp().sum(0), torch.ones(5), rtol=0, atol=1e-6)
    turned = codes_by(network, network.project(maps.flip(-1))).log_prob(values[:, None]).detach()
    assert (turned - log_prob).abs().max() > 0.1
    torch.manual_seed(1)
    v = given.sample((7,))
    torch.manual_seed(1)
    naive = torch.zeros(7, 5, 4, 3)
    for n in range(4):
        naive[..., n, :] = OneHotCategorical(logits=given.logits(naive)[..., n, :]).sample()
    assert torch.equal(v, naive)


D, N, K = 6, 4, 3


def program(posterior="nearest", classes=None):
    """A VQ program under this prior, of weights drawn."""
    torch.manual_seed(2)
    made = vq_vae(D, grid=(2, 2), num_codes=K, code_size=2, hidden_sizes=(5,), posterior=posterior)
    made.prior = PixelCNNPrior(K, (2, 2), **SMALL)
    if classes is not None:
        made.prior = ClassConditionalPixelCNNPrior(K, (2, 2), classes, **SMALL)
    return awake(made)


@pytest.mark.parametrize("classes", [None, 2])
def test_log_p_of_x_is_the_sum_over_all_codes_and_the_bound_is_below(classes):
    of_codes, x, values = program(classes=classes), torch.bernoulli(torch.full((5, D), 0.5)), every_grid(N, K)
    labels = () if classes is None else (torch.tensor([0, 1, 1, 0, 1]),)
    with torch.no_grad():
        log_p_x = of_codes.likelihood(of_codes.decoder(of_codes.codebook.embed(values))).log_prob(x[:, None])  # (5, 81)
        log_p_v = torch.stack([of_codes.prior(*[y[n] for y in labels]).log_prob(values) for n in range(5)])
    expected = (log_p_x + log_p_v).logsumexp(1)
    found = log_evidence(of_codes, (x, *labels) if labels else x)
    assert found is not None
    torch.testing.assert_close(found.log_p, expected, rtol=0, atol=1e-10)
    drawn = draw_particles(of_codes.model, of_codes.guide, x, *labels, num_particles=3)
    assert drawn.log_weights.shape == (3, 5) and (drawn.log_weights < expected).all()


@pytest.mark.parametrize(
    "posterior, objective",
    [("nearest", BiasedPathwise(iwae, 3)), ("stochastic", LeaveOneOut(elbo, 3)), ("stochastic", REBAR())],
    ids=["straight-through", "leave-one-out", "REBAR"],
)
def test_as_one_graph_it_is_the_same(posterior, objective):
    found, x = [], torch.bernoulli(torch.full((5, D), 0.5))
    for tier in ("off", "graph"):
        loss = compiled(Loss(objective, program(posterior)), tier)
        for batch in (x, x.flip(1)):
            torch.manual_seed(3)
            loss.zero_grad()
            value = loss(batch)
            value.backward()
        found.append([value.detach(), *[p.grad for p in loss.parameters() if p.grad is not None]])
    assert len(found[0]) > 20
    for eager, graph in zip(*found, strict=True):
        torch.testing.assert_close(graph, eager)


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"num_codes": 1}, "num_codes must be at least 2, got 1"),
        ({"grid": (2, 0)}, "grid"),
        ({"grid": (2, 2, 2)}, "height and width"),
        ({"channels": 0}, "at least 1"),
        ({"kernel_sizes": (4,)}, "odd"),
    ],
)
def test_bad_input(wrong, said):
    for make, more in ((PixelCNNPrior, {}), (ClassConditionalPixelCNNPrior, {"num_classes": 2})):
        with pytest.raises(ValueError, match=said):
            make(**{"num_codes": 3, "grid": (2, 2)} | more | wrong)


def test_no_classes():
    with pytest.raises(ValueError, match="num_classes"):
        ClassConditionalPixelCNNPrior(3, (2, 2), 0)
