"""Splits a traced graph at its noise: one part runs once, the other for each set of draws.

outputs = after(held, args, carried, noise),     carried = before(held, args)
"""

from collections.abc import Container, Iterable
from dataclasses import dataclass
from typing import Any

from torch.fx import Graph, GraphModule, Node
from torch.fx.node import map_arg

from pplvm.graphs.nodes import is_random, is_view, is_write
from pplvm.graphs.noise import Draw
from pplvm.graphs.tracing import Traced

__all__ = ["SplitGraph", "split_at_noise"]


@dataclass(frozen=True)
class SplitGraph:
    """The two graphs, and the noise that the second one takes last."""

    before: GraphModule  # (held..., args...) -> carried...
    after: GraphModule  # (held..., args..., carried..., noise...) -> outputs
    noise: tuple[Draw, ...]


def split_at_noise(traced: Traced) -> SplitGraph:
    """Split a graph where its noise comes in.

    Views are taken anew on either side, so that nothing is carried in a larger shape than it was computed in. A graph
    that changes tensors in place stays whole, as the second.
    """
    nodes = list(traced.graph.graph.nodes)
    given = [node for node in nodes if node.op == "placeholder"]
    first = len(given) - len(traced.noise)
    if any(map(is_write, nodes)):
        return SplitGraph(_part(traced.graph, given[:first], [], []), traced.graph, traced.noise)
    carried = _carried(_depending(nodes, given[first:]))
    outputs = nodes[-1].args[0]
    before = _part(traced.graph, given[:first], [], carried)
    return SplitGraph(before, _part(traced.graph, given, carried, outputs, first), traced.noise)


def _depending(nodes: Iterable[Node], noise: Iterable[Node]) -> set[Node]:
    """The nodes that depend on noise, and the output."""
    late = set(noise)
    for node in nodes:
        if node.op == "output" or is_random(node) or not late.isdisjoint(node.all_input_nodes):
            late.add(node)
    return late


def _carried(late: Iterable[Node]) -> list[Node]:
    """The noise-free nodes that later nodes read, without views, in program order."""
    waiting, seen, carried = list(late), set(late), []
    while waiting:
        for node in waiting.pop().all_input_nodes:
            if node in seen or node.op != "call_function":
                continue
            seen.add(node)
            (waiting if is_view(node) else carried).append(node)
    return sorted(carried)


def _part(whole: GraphModule, given: list[Node], carried: list[Node], outputs: Any, first: int = 0) -> GraphModule:
    """A subgraph for `outputs`, with `carried` as inputs after the first of the given ones."""
    graph, copies = Graph(), dict[Node, Node]()
    for node in [*given[:first], *carried, *given[first:]]:
        copies[node] = graph.placeholder(node.name)
        copies[node].meta = dict(node.meta)
    needed = _needed([node for node in outputs if isinstance(node, Node)], copies)
    for node in whole.graph.nodes:
        if node in needed:
            copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(map_arg(list(outputs), copies.__getitem__))
    return GraphModule(whole, graph)


def _needed(outputs: list[Node], known: Container[Node]) -> set[Node]:
    """The nodes that `outputs` need where some nodes are known."""
    waiting, needed = list(outputs), set[Node]()
    while waiting:
        node = waiting.pop()
        if node not in needed and node not in known:
            needed.add(node)
            waiting.extend(node.all_input_nodes)
    return needed
