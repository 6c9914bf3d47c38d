"""Takes from a graph what it only counts: changes of its inputs that no output depends on."""

import torch
from torch.fx import GraphModule, Node

from pplvm.graphs.nodes import is_random, is_write, root_of

__all__ = ["drop_unread_writes"]

aten = torch.ops.aten
BY_SHAPE = {
    *(aten.zeros_like.default, aten.ones_like.default, aten.empty_like.default, aten.full_like.default),
    *(aten.new_zeros.default, aten.new_ones.default, aten.new_full.default, aten.new_empty.default),
}
"""Operations that ask a tensor for its shape and type alone."""


def drop_unread_writes(graph: GraphModule) -> bool:
    """Erase in-place changes that no output depends on, such as counts; return whether there were any.

    The outputs stay as they are; so do all operations that draw, and graphs with batch norm, which moves its running
    mean without saying so in its schema.
    """
    if any("batch_norm" in str(node.target) for node in graph.graph.nodes):
        return False
    live = _live(graph)
    if all(node in live for node in graph.graph.nodes if is_write(node)):
        return False
    for node in reversed(graph.graph.nodes):
        if node not in live and node.op not in ("placeholder", "output"):
            graph.graph.erase_node(node)
    graph.recompile()
    return True


def _live(graph: GraphModule) -> set[Node]:
    """All nodes that an output or a draw depends on, with the writes to whatever memory is read."""
    nodes = list(graph.graph.nodes)
    writes: dict[Node, list[Node]] = {}
    for node in filter(is_write, nodes):
        writes.setdefault(root_of(node), []).append(node)
    live, open_ = set[Node](), [node for node in nodes if node.op == "output" or is_random(node)]
    while open_:
        node = open_.pop()
        if node in live:
            continue
        live.add(node)
        open_ += node.all_input_nodes
        if node.target not in BY_SHAPE:
            open_ += [write for read in node.all_input_nodes for write in writes.get(root_of(read), [])]
    return live
