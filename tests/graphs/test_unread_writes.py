"""Counts are taken out of a graph; whatever is read, or is an output, stays."""

import pytest
import torch

from pplvm.graphs.nodes import is_write
from pplvm.graphs.tracing import operations
from pplvm.graphs.unread_writes import drop_unread_writes


def counts(count, x):
    count.add_(x.detach().sum(0))
    count.view(3)[1:].mul_(2.0)
    return [x.square().sum()]


def reads(count, x):
    count.add_(x.detach().sum(0))
    return [(x / count).sum()]


def counts_twice(count, x):
    count.add_(torch.zeros_like(count).index_add_(0, torch.tensor([0, 2]), x.sum(1)))
    count.clone().add_(count)
    return [x.sum()]


def counts_elsewhere(count, x):
    kept = torch.zeros_like(x)
    kept.add_(x)
    count.add_(kept.sum(0))
    return [kept.sum()]


def hands_out(count, x):
    count.add_(x.sum(0))
    return [x.sum(), count]


@pytest.mark.parametrize("function", [counts, counts_twice, counts_elsewhere, reads, hands_out])
def test_what_is_only_counted_is_dropped(function):
    count, x = torch.ones(3), torch.arange(6.0).reshape(2, 3) + 1
    expected = function(count.clone(), x)
    graph = operations(function, [count.clone(), x])
    is_count = function.__name__.startswith("counts")
    assert drop_unread_writes(graph) == is_count
    assert any(map(is_write, graph.graph.nodes)) == (function not in (counts, counts_twice))
    before = count.clone()
    assert all(torch.equal(a, b) for a, b in zip(graph(count, x), expected, strict=True))
    assert torch.equal(count, before) == is_count
