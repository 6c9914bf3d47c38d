"""A graph cut at its noise gives what the whole gives, and computes without noise what needs none."""

import pyro
import pytest
import torch
from torch import nn

from pplvm.graphs import splitting
from pplvm.graphs.splitting import split_at_noise
from pplvm.graphs.tracing import trace

X = torch.linspace(-1, 1, 5, dtype=torch.float64).reshape(1, 5)


class Coder(nn.Module):
    """An encoder that needs no noise, a decoder that does."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(5, 4), nn.Linear(2, 5)
        self.norm = nn.BatchNorm1d(5)

    def forward(self, x):
        loc, scale = self.encoder(x).chunk(2, -1)
        z = loc + scale.exp() * torch.randn(30, 2)
        return [self.decoder(z).sum(-1), loc]


def traced(function, module):
    held = [*module.parameters(), *module.buffers()]
    with torch.no_grad():
        return trace(function, held, [X]), held


def both(whole, held):
    """What the whole gives, and what its parts give, at the same noise."""
    parts, noise = split_at_noise(whole), [draw() for draw in whole.noise]
    with torch.no_grad():
        expected = whole.graph(*held, X, *noise)
        found = parts.after(*held, X, *parts.before(*held, X), *noise)
    return expected, found


def operations(graph) -> list[str]:
    return [str(node.target) for node in graph.graph.nodes if node.op == "call_function"]


def test_the_parts_together_are_the_whole():
    coder = Coder()
    whole, held = traced(coder, coder)
    expected, found = both(whole, held)
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
    assert not torch.equal(expected[0], both(whole, held)[0][0])  # noise is an input


def test_what_needs_no_noise_is_computed_before():
    coder = Coder()
    parts = split_at_noise(traced(coder, coder)[0])
    assert operations(parts.before).count("aten.addmm.default") == 1  # the encoder
    assert operations(parts.after).count("aten.addmm.default") == 1  # the decoder
    assert "aten.exp.default" in operations(parts.before) and "aten.exp.default" not in operations(parts.after)
    assert len(parts.noise) == 1


def test_a_wrong_cut_is_seen(monkeypatch):
    """Noise taken for a constant would be computed before, where it is not known."""
    coder = Coder()
    whole, held = traced(coder, coder)
    monkeypatch.setattr(splitting, "_depending", lambda nodes, noise: {list(nodes)[-1]})
    with pytest.raises(TypeError, match="noise_0"):
        both(whole, held)


def test_views_are_taken_anew_and_not_carried():
    def wide(x):
        return [(x.exp().expand(1000, 5) + torch.randn(1000, 5)).sum(-1)]

    whole, held = traced(wide, nn.Module())
    parts = split_at_noise(whole)
    (carried,) = parts.before(X)
    assert carried.shape == (1, 5) and "aten.expand.default" in operations(parts.after)
    assert all(torch.equal(a, b) for a, b in zip(*both(whole, held), strict=True))


def test_draws_that_stay_in_the_graph_come_after():
    def gamma(x):
        return [torch._standard_gamma(x.exp()), x.exp().sum()]

    parts = split_at_noise(traced(gamma, nn.Module())[0])
    assert parts.noise == () and "aten._standard_gamma.default" in operations(parts.after)
    assert "aten._standard_gamma.default" not in operations(parts.before)


def test_a_graph_that_writes_stays_whole():
    coder = Coder()
    whole, held = traced(lambda x: [coder.norm(x.expand(3, 5)) + torch.randn(3, 5)], coder)
    parts = split_at_noise(whole)
    assert operations(parts.before) == []
    before = coder.norm.num_batches_tracked.clone()
    expected, found = both(whole, held)
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
    assert coder.norm.num_batches_tracked == before + 2  # the whole once, the parts once


def test_a_program_of_pyro():
    def program(x):
        z = pyro.sample("z", pyro.distributions.Bernoulli(logits=x.expand(20, 5)))
        return [pyro.distributions.Bernoulli(logits=x).log_prob(z).sum(-1)]

    whole, held = traced(program, nn.Module())
    assert all(torch.equal(a, b) for a, b in zip(*both(whole, held), strict=True))
