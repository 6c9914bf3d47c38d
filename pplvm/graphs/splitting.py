"""A traced graph in two at its noise: what depends on none runs once, the rest for each set of draws.

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

__all__ = ["Split", "split"]


@dataclass(frozen=True)
class Split:
    """The two graphs, and the noise that the second one takes last."""

    before: GraphModule  # (held..., args...) -> carried...
    after: GraphModule  # (held..., args..., carried..., noise...) -> outputs
    noise: tuple[Draw, ...]


def split(traced: Traced) -> Split:
    """Cut a graph where its noise comes in.

    Views are taken anew on either side, so that nothing is carried in a larger shape than it was computed in. A graph
    that changes tensors in place stays whole, as the second.
    """
    nodes = list(traced.graph.graph.nodes)
    given = [node for node in nodes if node.op == "placeholder"]
    first = len(given) - len(traced.noise)
    if any(map(is_write, nodes)):
        return Split(_part(traced.graph, given[:first], [], []), traced.graph, traced.noise)
    carried = _carried(_depending(nodes, given[first:]))
    outputs = nodes[-1].args[0]
    before = _part(traced.graph, given[:first], [], carried)
    return Split(before, _part(traced.graph, given, carried, outputs, first), traced.noise)


def _depending(nodes: Iterable[Node], noise: Iterable[Node]) -> set[Node]:
    """What noise decides, and the output."""
    late = set(noise)
    for node in nodes:
        if node.op == "output" or is_random(node) or not late.isdisjoint(node.all_input_nodes):
            late.add(node)
    return late


def _carried(late: Iterable[Node]) -> list[Node]:
    """What late nodes read that is computed without them, views followed to what they show, in program order."""
    waiting, seen, carried = list(late), set(late), []
    while waiting:
        for node in waiting.pop().all_input_nodes:
            if node in seen or node.op != "call_function":
                continue
            seen.add(node)
            (waiting if is_view(node) else carried).append(node)
    return sorted(carried)


def _part(whole: GraphModule, given: list[Node], carried: list[Node], outputs: Any, first: int = 0) -> GraphModule:
    """What gives `outputs` of a graph, with `carried` as inputs, which come after the first of the given ones."""
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
    """What must be computed for `outputs` where some nodes are known."""
    waiting, needed = list(outputs), set[Node]()
    while waiting:
        node = waiting.pop()
        if node not in needed and node not in known:
            needed.add(node)
            waiting.extend(node.all_input_nodes)
    return needed
