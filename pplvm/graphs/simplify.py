"""Simplifies a traced graph for replay, where each operation costs more to call than to compute."""

import copy
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from pplvm.graphs.nodes import is_impure, is_random, is_view, is_write, root_of, schema_of

__all__ = ["copied", "own_outputs", "simplified", "with_python_calls"]

aten = torch.ops.aten

MOST_FOLDED = 4096
"""Entries of a constant that is kept instead of computed anew; larger ones would have to be read from memory."""


def copied(graph: GraphModule) -> GraphModule:
    """A copy of a graph with the same nodes and constants."""
    return GraphModule(graph, copy.deepcopy(graph.graph))


def simplified(graph: GraphModule) -> GraphModule:
    """A copy of a graph without clones, common subexpressions and constant subgraphs."""
    graph = copied(graph)
    for shorten in (_skip_identities, _fold_constants, _skip_identities, _merge_equal):
        shorten(graph)
        graph.graph.eliminate_dead_code(is_impure)
    own_outputs(graph)
    graph.recompile()
    return graph


def with_python_calls(graph: GraphModule) -> GraphModule:
    """A copy that calls each operation by its Python binding, which dispatches in a third of the time."""
    graph = copied(graph)
    for node in graph.graph.nodes:
        if (schema := schema_of(node)) is not None:
            name = schema.name.split("::")[1]
            homes: tuple[Any, ...] = (torch._C._VariableFunctions, torch._C._nn, torch._C.TensorBase)
            node.target = next((getattr(home, name) for home in homes if hasattr(home, name)), node.target)
    graph.recompile()
    return graph


def own_outputs(graph: GraphModule) -> None:
    """Copy outputs that share memory with one another or with inputs, as gradients must not."""
    end = next(node for node in graph.graph.nodes if node.op == "output")
    found, roots = [], set()
    for output in end.args[0]:
        if isinstance(output, Node):
            root = root_of(output)
            if root in roots or _repeats(output) or root.op != "call_function":
                with graph.graph.inserting_before(end):
                    output = graph.graph.call_function(aten.clone.default, (output,))
            roots.add(root)
        found.append(output)
    end.args = (found,)


def _repeats(node: Node) -> bool:
    """Whether a node is a view that repeats memory (expand)."""
    while is_view(node):
        if node.target is aten.expand.default:
            return True
        node = node.all_input_nodes[0]
    return False


def _skip_identities(graph: GraphModule) -> None:
    for node in graph.graph.nodes:
        if (same := _same_as(node)) is not None and not _is_written(node) and not _is_written(same):
            node.replace_all_uses_with(same)
            graph.graph.erase_node(node)


def _same_as(node: Node) -> Node | None:
    """The earlier node with the same value as this one."""
    op, args = node.target, node.args
    before = args[0] if args and isinstance(args[0], Node) else None
    if before is None:
        return None
    if op in (aten.alias.default, aten.detach.default, aten.lift_fresh_copy.default, aten.lift_fresh.default):
        return before
    if op in (aten.expand.default, aten.view.default) and _shape(node) == _shape(before) is not None:
        return before
    if op is aten.pow.Tensor_Scalar and args[1] == 1 and _layout(node) == _layout(before):
        return before
    if op is aten.t.default and before.target is aten.t.default:
        return before.all_input_nodes[0]
    return None


def _fold_constants(graph: GraphModule) -> None:
    constants: dict[Node, Tensor] = {}
    for node in graph.graph.nodes:
        if node.op == "get_attr":
            constants[node] = getattr(graph, node.target)
        elif schema_of(node) is not None and _is_constant(node, constants) and not _is_written(node):
            value = node.target(*_filled(node, constants), **node.kwargs)
            if isinstance(value, Tensor) and value.numel() <= MOST_FOLDED:
                constants[node] = value
    for number, (node, value) in enumerate(constants.items()):
        if node.op != "get_attr":
            name = f"_folded_{number}"
            graph.register_buffer(name, value, persistent=False)  # of its own strides, by which views of it are legal
            with graph.graph.inserting_before(node):
                constant = graph.graph.get_attr(name)
            constant.meta = node.meta
            node.replace_all_uses_with(constant)
            graph.graph.erase_node(node)


def _is_constant(node: Node, constants: dict[Node, Tensor]) -> bool:
    if is_impure(node):
        return False
    if node.target in OF_SHAPE:
        return node.meta["val"].numel() <= MOST_FOLDED
    return all(each in constants and not _is_written(each) for each in node.all_input_nodes)


OF_SHAPE = (aten.ones_like.default, aten.zeros_like.default)
"""Operations whose result the shape of their input decides."""


def _filled(node: Node, constants: dict[Node, Tensor]) -> Any:
    """A node's arguments, with one of which only the shape matters replaced by one like the result."""
    return torch.fx.map_arg(node.args, lambda each: constants[each] if each in constants else _stand_in(node))


def _stand_in(node: Node) -> Tensor:
    value = node.meta["val"]
    return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=value.device)


def _merge_equal(graph: GraphModule) -> None:
    """Merge nodes that compute the same (common subexpressions), except where tensors change in place."""
    if any(is_write(node) for node in graph.graph.nodes):
        return
    first: dict[str, Node] = {}
    for node in graph.graph.nodes:
        if schema_of(node) is None or is_random(node):
            continue
        key = f"{node.target} {node.args} {node.kwargs}"
        if key in first:
            node.replace_all_uses_with(first[key])
            graph.graph.erase_node(node)
        else:
            first[key] = node


def _is_written(node: Node) -> bool:
    """Whether a node, or a view of it, is written to."""
    return any(is_write(user) or (is_view(user) and _is_written(user)) for user in node.users)


def _shape(node: Node) -> Any:
    value = node.meta.get("val")
    return tuple(value.shape) if isinstance(value, torch.Tensor) else None


def _layout(node: Node) -> Any:
    value = node.meta.get("val")
    return (value.dtype, value.stride()) if isinstance(value, torch.Tensor) else None
