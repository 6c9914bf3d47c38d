"""Properties of graph nodes: random, in-place, view."""

from typing import Any

import torch
from torch.fx import Node

__all__ = ["is_impure", "is_random", "is_view", "is_write", "root_of", "schema_of"]


def schema_of(node: Node) -> Any:
    """The schema of the operation that a node calls; None if it calls none."""
    return getattr(node.target, "_schema", None) if node.op == "call_function" else None


def is_random(node: Node) -> bool:
    """Whether a node draws from torch's random number generator."""
    return node.op == "call_function" and torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())


def is_write(node: Node) -> bool:
    """Whether a node changes a tensor in place."""
    schema = schema_of(node)
    return schema is not None and schema.is_mutable


def is_view(node: Node) -> bool:
    """Whether a node is a view of its first input."""
    schema = schema_of(node)
    alias = schema.arguments[0].alias_info if schema is not None and schema.arguments else None
    return alias is not None and not alias.is_write


def is_impure(node: Node) -> bool:
    """Whether a node must stay in a graph although its result is not used."""
    return node.op in ("placeholder", "output") or is_random(node) or is_write(node)


def root_of(node: Node) -> Node:
    """The node that owns the memory of a view or an in-place result."""
    while is_view(node) or is_write(node):
        node = node.all_input_nodes[0]
    return node
