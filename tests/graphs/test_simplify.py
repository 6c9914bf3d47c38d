"""A graph made shorter is one that can be run: what views rely on stays as it was when the graph was traced."""

import torch

from pplvm.graphs.simplify import simplified
from pplvm.graphs.tracing import operations


def rows_of_ones(x):
    """A backward pass's ones, expanded and viewed as rows: legal only while all their strides are zero."""
    ones = torch.ones_like(x.sum()).expand(10, 100)
    return [ones.unsqueeze(-1).expand(10, 100, 10).unsqueeze(3).view(10_000, 1) * x]


def test_a_constant_that_is_kept_has_the_strides_by_which_it_is_viewed():
    x = torch.tensor([2.0])
    graph = simplified(operations(rows_of_ones, [x]))
    assert any("_folded" in name for name, _ in graph.named_buffers())
    torch.testing.assert_close(graph(x)[0], torch.full((10_000, 1), 2.0))


def test_a_first_power_is_skipped_only_where_it_changes_no_strides():
    x = torch.arange(4.0)
    power = lambda x: [torch.ops.aten.pow.Tensor_Scalar(x.expand(5, 4), 1).view(20)]
    torch.testing.assert_close(simplified(operations(power, [x]))(x)[0], x.repeat(5))
    dense = simplified(operations(lambda x: [torch.ops.aten.pow.Tensor_Scalar(x, 1) + 1], [x]))
    assert not any("pow" in str(node.target) for node in dense.graph.nodes)
