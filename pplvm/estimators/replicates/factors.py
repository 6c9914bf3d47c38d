"""Gradients of weight matrices kept as two factors, whose product they are.

    dW = left^T right,     left (R, O): gradients of a layer's outputs, right (R, I): its inputs, R rows

Where R (O + I) is well below O I, replicates of the factors cost less to keep than replicates of dW, and what is told
of dW (norms, inner products, means) follows from them.

References:
    Goodfellow, Efficient per-example gradient computations, 2015, arXiv:1510.01799
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch.fx import GraphModule, Node

from pplvm.graphs.nodes import is_impure
from pplvm.graphs.simplify import simplified

__all__ = ["factored"]

aten = torch.ops.aten

LEAST_SAVED = 0.5
"""R (O + I) must be below this share of O I (benchmarks/README.md)."""


def factored(graph: GraphModule) -> tuple[GraphModule, list[bool]]:
    """A graph of value and gradients with large products given as factors.

    Arguments:
        graph: its outputs are the value and one gradient a parameter.

    Returns:
        The graph, with two outputs (R, O) and (R, I) in place of one where that pays, and for each gradient whether.
    """
    graph = simplified(graph)
    end = next(node for node in graph.graph.nodes if node.op == "output")
    value, *gradients = end.args[0]
    outputs, chosen = [value], []
    for gradient in gradients:
        pairs = _products(gradient)
        chosen.append(bool(pairs) and _pays(pairs))
        with graph.graph.inserting_before(end):
            outputs += _joined(graph, pairs) if chosen[-1] else [gradient]
    end.args = (outputs,)
    graph.graph.eliminate_dead_code(is_impure)
    graph.recompile()
    return graph, chosen


def _products(node: Any) -> list[tuple[Node, Node]]:
    """Pairs (left, right) whose products left^T right sum to a node; none for other nodes."""
    if not isinstance(node, Node):
        return []
    if node.target is aten.clone.default:
        return _products(node.args[0])
    if node.target is aten.t.default:
        return [(right, left) for left, right in _products(node.args[0])]
    if node.target is aten.add.Tensor and len(node.args) == 2 and not node.kwargs:
        first, second = (_products(each) for each in node.args)
        return first + second if first and second else []
    if node.target is aten.mm.default:
        a, right = node.args
        if isinstance(a, Node) and isinstance(right, Node) and a.target is aten.t.default:
            return [(a.all_input_nodes[0], right)]
    return []


def _pays(pairs: Sequence[tuple[Node, Node]]) -> bool:
    sizes: list[tuple[Any, Any]] = [(left.meta.get("val"), right.meta.get("val")) for left, right in pairs]
    if any(left is None or right is None for left, right in sizes):
        return False
    rows, outs, ins = sum(len(left) for left, _ in sizes), sizes[0][0].shape[1], sizes[0][1].shape[1]
    return rows * (outs + ins) < LEAST_SAVED * outs * ins


def _joined(graph: GraphModule, pairs: Sequence[tuple[Node, Node]]) -> list[Node]:
    """One pair with the rows of all pairs."""
    if len(pairs) == 1:
        return list(pairs[0])
    return [graph.graph.call_function(aten.cat.default, (list(side), 0)) for side in zip(*pairs, strict=True)]
