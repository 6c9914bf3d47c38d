"""Rejection sampling against exact distributions of binary data, and the best-ranked share, which is another one."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy.stats import chisquare
from torch import nn

from pplvm.evaluation.evidence import log_evidence
from pplvm.evaluation.rejection import best_ranked_samples, rejection_samples
from tests.problems import small_net

STATES = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 4).double()  # (16, 4)
COUNT = 4000


def number(x):
    """Which of the 16 states each sample is."""
    return (x @ torch.tensor([8.0, 4.0, 2.0, 1.0], dtype=x.dtype)).long()


def table(seed=0):
    """r of every state, from 0 to 1."""
    return torch.rand(16, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def probabilities(net):
    return log_evidence(net, STATES).log_p.exp()


def p_value(draws, expected):
    counts = torch.bincount(number(draws), minlength=16).double()
    return chisquare(counts, len(draws) * expected / expected.sum()).pvalue


@pytest.mark.parametrize("max_ratio", [1.0, 2.5])
def test_accepted_samples_are_those_of_p_times_r(max_ratio):
    net = small_net((2, 3), 4)
    p, r = probabilities(net), 2.5 * table() if max_ratio > 1 else table()
    found = rejection_samples(net, STATES[:1], lambda x: r[number(x)], COUNT, max_ratio, seed=1)
    expected = float(p @ r) / max_ratio
    error = (expected * (1 - expected) / float(found.candidates.sum())) ** 0.5
    assert abs(found.acceptance - expected) < 4 * error
    assert p_value(found.draw, p * r) > 1e-3
    assert torch.equal(found.scores, r[number(found.draw)]) and found.mean.shape == found.draw.shape == (COUNT, 4)


def test_the_best_ranked_share_is_another_distribution():
    net = small_net((2, 3), 4)
    p, r = probabilities(net), table()
    share = float(p @ r)
    found = best_ranked_samples(net, STATES[:1], lambda x: r[number(x)], COUNT, share, seed=1)
    assert found.acceptance == pytest.approx(share, rel=1e-3) and found.draw.shape == (COUNT, 4)
    assert p_value(found.draw, p * r) < 1e-12
    candidates = round(float(found.candidates.sum()))
    least = found.scores.min()
    above = float(p[r > least].sum())  # of all candidates, those that rank above the last one that is kept
    assert abs(float((found.scores > least).sum()) / candidates - above) < 4 * (above * (1 - above) / candidates) ** 0.5


def test_a_classifier_accepts_the_share_of_its_class_and_gives_its_samples():
    net, torch_rows = small_net((2, 3), 4), torch.randn(4, 3, generator=torch.Generator().manual_seed(2)).double()
    p, of_class = probabilities(net), (STATES @ torch_rows).softmax(-1)
    for y in range(3):
        found = rejection_samples(net, STATES[:1], lambda x, y=y: (x @ torch_rows).softmax(-1)[:, y], COUNT, seed=y)
        share = float(p @ of_class[:, y])
        assert abs(found.acceptance - share) < 4 * (share * (1 - share) / float(found.candidates.sum())) ** 0.5
        assert p_value(found.draw, p * of_class[:, y]) > 1e-3


class OfClass(nn.Module):
    """x ~ four Bernoullis whose probabilities depend on the class."""

    logits = torch.tensor([[-1.0, 0.0, 1.0, 0.5], [1.5, -0.5, 0.0, 1.0], [0.0, 0.0, 0.0, -2.0]], dtype=torch.float64)

    def model(self, x, y):
        with pyro.plate("batch", len(x)):
            pyro.sample("x", dist.Bernoulli(logits=self.logits[y]).to_event(1), obs=x)

    def guide(self, x, y):
        pass


def test_each_class_is_rejected_by_itself():
    r, classes = torch.stack([table(3), 0.2 * table(4), 0.05 + 0.9 * table(5)]), torch.tensor([0, 2])
    like = STATES[:1].expand(2, 4), classes
    found = rejection_samples(OfClass(), like, lambda x, y: r[y, number(x)], 2 * COUNT)
    assert torch.equal(found.conditions[0], classes.repeat(COUNT))
    assert set(found.acceptance_by_class) == {0, 2}
    for y in (0, 2):
        p = dist.Bernoulli(logits=OfClass.logits[y]).to_event(1).log_prob(STATES).exp()
        of_class = found.conditions[0] == y
        assert p_value(found.draw[of_class], p * r[y]) > 1e-3
        share, tried = float(p @ r[y]), float(found.candidates[of_class].sum())
        assert abs(found.acceptance_by_class[y] - share) < 4 * (share * (1 - share) / tried) ** 0.5
    kept = best_ranked_samples(OfClass(), like, lambda x, y: r[y, number(x)], 7, share=0.3)
    assert kept.conditions[0].tolist() == [0, 2, 0, 2, 0, 2, 0]
    assert kept.acceptance_by_class == pytest.approx({0: 4 / 14, 2: 3 / 10})
    assert torch.equal(kept.scores, r[kept.conditions[0], number(kept.draw)])


def test_samples_depend_on_the_seed_and_not_on_what_was_drawn_before():
    net, r = small_net((2,), 4), table()
    first, again, other = (
        rejection_samples(net, STATES[:1], lambda x: r[number(x)], 50, seed=s).draw for s in (1, 1, 2)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
    state = torch.get_rng_state()
    rejection_samples(net, STATES[:1], lambda x: r[number(x)], 5)
    assert torch.equal(torch.get_rng_state(), state)


def test_candidates_are_drawn_at_a_temperature():
    found = best_ranked_samples(
        small_normal := Normals(), torch.zeros(1, 2), lambda x: -x[:, 0].abs(), 500, 1.0, temperature=0.1
    )
    assert 0.08 < float(found.draw.std()) < 0.12 and small_normal.training


class Normals(nn.Module):
    """x is z, a normal."""

    def model(self, x):
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 1e-4).to_event(1), obs=x)

    def guide(self, x):
        with pyro.plate("batch", len(x)):
            pyro.sample("z", dist.Normal(x, 1.0).to_event(1))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"count": 0}, "count must be an integer of at least 1"),
        ({"max_ratio": 0.0}, "max_ratio must be a finite number above 0"),
        ({"ratio": lambda x: 1.5 * torch.ones(len(x))}, r"1\.5, and it must lie between 0 and max_ratio=1"),
        ({"ratio": lambda x: -torch.ones(len(x))}, "must lie between 0"),
        ({"ratio": lambda x: x}, r"one number a sample, \(5,\), and gave shape \(5, 4\)"),
        ({"ratio": lambda x: torch.full((len(x),), torch.nan)}, "NaN or infinity for 5 of 5"),
        ({"ratio": lambda x: torch.zeros(len(x)), "most_candidates": 100}, "100 candidates gave 0 of 5 samples"),
    ],
)
def test_what_cannot_be_is_one_sentence(wrong, told):
    settings = {"ratio": lambda x: torch.ones(len(x)), "count": 5} | wrong
    with pytest.raises(ValueError, match=told):
        rejection_samples(small_net((2,), 4), STATES[:1], **settings)


@pytest.mark.parametrize("share", [0.0, 1.1, float("nan")])
def test_a_share_is_above_zero_and_at_most_one(share):
    with pytest.raises(ValueError, match="share must be above 0 and at most 1"):
        best_ranked_samples(small_net((2,), 4), STATES[:1], lambda x: x.mean(1), 5, share)
