"""The PixelCNN as a prior over codes: it sums to one, starts uniform, learns, and draws what it says."""

import itertools
import math

import pyro
import pytest
import torch
from pyro import poutine
from torch import nn
from torch.nn.functional import one_hot

from pplvm.networks.pixelcnn import PixelCNN
from pplvm.programs.pixelcnn_prior import ClassConditionalPixelCNNPrior, PixelCNNPrior, codes_by


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


def test_draws_have_its_frequencies_also_of_classes():
    prior = awake(ClassConditionalPixelCNNPrior(2, (2, 2), 2, **SMALL), 0.6)
    given, n = prior(torch.arange(2)), 3000
    values = every_grid(4, 2)
    probability = given.log_prob(values[:, None]).exp().detach()  # (16, 2)
    draws = given.sample((n,))
    assert draws.shape == (n, 2, 4, 2) and not draws.requires_grad
    index = (draws.argmax(-1) * torch.tensor([8, 4, 2, 1])).sum(-1)  # (n, 2)
    counts = torch.stack([torch.bincount(each, minlength=16) for each in index.unbind(1)], 1)
    error = (probability * (1 - probability) / n).sqrt()
    assert ((counts / n - probability) / error).abs().max() < 4.5
    assert ((counts.flip(1) / n - probability) / error).abs().max() > 4.5, "the classes differ"


def test_it_stands_in_plates_and_under_particles():
    prior = awake(ClassConditionalPixelCNNPrior(3, (2, 2), 4, **SMALL))
    labels = torch.tensor([0, 3, 1])

    def model():
        with pyro.plate("batch", 3):
            return pyro.sample("codes", prior(labels))

    with pyro.plate("particles", 5, dim=-2):
        trace = poutine.trace(model).get_trace()
    trace.compute_log_prob()
    site = trace.nodes["codes"]
    assert site["value"].shape == (5, 3, 4, 3) and site["log_prob"].shape == (5, 3)
    one_by_one = [prior(y).log_prob(v) for v, y in zip(site["value"].unbind(1), labels, strict=True)]
    torch.testing.assert_close(site["log_prob"], torch.stack(one_by_one, 1))
    alone = awake(PixelCNNPrior(3, (2, 2), **SMALL))().expand([5, 3])
    assert alone.sample().shape == (5, 3, 4, 3) and alone.log_prob(site["value"]).shape == (5, 3)


def test_it_learns_codes_that_hang_together():
    """All positions alike: log 3 nats instead of 4 log 3."""
    values = one_hot(torch.arange(3)[:, None].expand(3, 4), 3).double()
    prior = PixelCNNPrior(3, (2, 2), **SMALL)
    optimizer = torch.optim.Adam(prior.parameters(), 2e-2)
    for _ in range(80):
        optimizer.zero_grad()
        loss = -prior().log_prob(values).mean()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) == pytest.approx(math.log(3), abs=0.02)
    drawn = prior.eval()().sample((50,)).argmax(-1)
    assert (drawn == drawn[:, :1]).all(1).double().mean() > 0.9


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
