"""A thousand replicate gradients at frozen parameters, for their mean and total variance: VAE, belief net, RLOO-10.

Sums are kept of g and of g^2, never the gradients. A contestant's `chunk` is how many it takes at a time.

python -m benchmarks.peers.replicates [--rounds 5] [--threads 2] [--device cpu] [--json FILE]
"""

import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import count
from typing import Any

import pyro
import torch
from pyro.infer import ELBO, Trace_ELBO
from torch import Tensor, nn

from benchmarks.contestants import ByHand, images, seeded
from benchmarks.handwritten import draw, net_leave_one_out, net_score_function, vae_elbo
from benchmarks.peers.agreement import Verdict, worst_distance
from benchmarks.peers.moments import AT_A_TIME, Moments, Replicates, moments_of
from benchmarks.peers.problems import Problem, belief_net
from benchmarks.peers.tables import Section, Target, run
from pplvm.bounds import elbo
from pplvm.estimators.replicates.chunks import Chunk, Dense, Factors
from pplvm.objectives.objective import Loss
from pplvm.objectives.pathwise import Pathwise
from pplvm.objectives.score_function import LeaveOneOut, ScoreFunction
from pplvm.programs.vae import VAE

__all__ = ["section", "sections"]

PYRO, OURS, TIERS = "Pyro loop, validation off", "ours,", ("graph", "inductor")

BLOCK = 8
"""Gradients multiplied out at a time: their sums then find them in the cache."""


@dataclass(frozen=True)
class Method:
    """An estimator in every library's words; storchastic has a name for it, or it is left out."""

    objective: Callable[..., ELBO]  # of num_particles
    by_hand: ByHand
    numpyro: str
    storchastic: str = ""
    others_differ: bool = False  # Pyro's and NumPyro's estimate the same with another variance


def methods() -> dict[str, Method]:
    return {
        "pathwise": Method(partial(Pathwise, elbo), vae_elbo, "Trace_ELBO"),
        "score function": Method(
            partial(ScoreFunction, elbo), net_score_function, "TraceGraph_ELBO", storchastic="score function"
        ),
        "leave-one-out": Method(
            partial(LeaveOneOut, elbo),
            net_leave_one_out,
            "TraceGraph_ELBO",
            storchastic="leave-one-out",
            others_differ=True,
        ),
    }


def sections(device: str) -> Iterator[Section]:
    x, net = images(20), partial(seeded, partial(belief_net, 784, (200,)))
    vae = Problem(partial(seeded, partial(VAE, 784, 50, (200,))), x, 1).to(device)
    pathwise, score, rloo = methods().values()
    chunked, gram = f"{OURS} vmap, inductor", f"{OURS} Gram, inductor"
    alone = [Target(chunked, 7, PYRO), Target(gram, 9, PYRO), Target(f"{OURS} Gram, graph", 6, PYRO)]
    yield section("VAE 784-200-50, B = 20", vae, pathwise, alone)
    storchastic = Target(gram, 20, "storchastic loop")
    yield section("SBN 784-200, B = 20, score function", Problem(net, x, 1).to(device), score, [*alone, storchastic])
    ten = [Target(gram, 3, PYRO), Target(gram, 6, "storchastic loop")]
    yield section("SBN 784-200, B = 20, leave-one-out, K = 10", Problem(net, x, 10).to(device), rloo, ten)


def section(title: str, problem: Problem, method: Method, targets: Sequence[Target] = ()) -> Section:
    loop = lambda gradients: Replicates(partial(in_a_loop, gradients))
    contestants = {
        PYRO: lambda: loop(pyro.validation_enabled(False)(by_pyro(problem))),
        "Pyro loop": lambda: loop(by_pyro(problem)),
        "hand-written loop": lambda: loop(by_hand(problem, method.by_hand)),
        **{f"NumPyro vmap, chunk {chunk}": partial(by_numpyro, problem, method.numpyro, chunk) for chunk in (1, 20)},
        f"{OURS} loop, eager": lambda: loop(by_ours(problem, method.objective)),
        **{f"{OURS} loop, {tier}": lambda t=tier: loop(by_ours(problem, method.objective, t)) for tier in TIERS},
        **{f"{OURS} vmap, {tier}": partial(in_chunks, problem, method.objective, tier, False) for tier in TIERS},
        **{f"{OURS} Gram, {tier}": partial(in_chunks, problem, method.objective, tier, True) for tier in TIERS},
    }
    if method.storchastic:
        contestants["storchastic loop"] = lambda: loop(by_storchastic(problem, method.storchastic))
    return Section(
        title,
        contestants,
        judge_of(problem, method),
        targets,
        inner=1,
        units=AT_A_TIME,
        unit="replicate",
        faster=True,
        counted="hand-written loop",
    )


def in_a_loop(gradients: Callable[[], Sequence[Tensor]], replicates: int) -> Moments:
    """Gradients one by one, in running sums."""
    first = gradients()
    total, squares = [g.clone() for g in first], [g.square() for g in first]
    for _ in range(replicates - 1):
        found = list(gradients())
        torch._foreach_add_(total, found)
        torch._foreach_addcmul_(squares, found, found)
    return moments_of(total, sum(float(s.double().sum()) for s in squares), replicates)


def by_pyro(problem: Problem) -> Callable[[], Sequence[Tensor]]:
    program, x, K = problem.build(), problem.x, problem.particles
    many = {"num_particles": K, "vectorize_particles": True, "max_plate_nesting": 1} if K > 1 else {}
    objective, parameters = Trace_ELBO(**many), list(program.parameters())

    def gradients() -> Sequence[Tensor]:
        loss = objective.differentiable_loss(program.model, program.guide, x) / len(x)
        return torch.autograd.grad(loss, parameters)

    return gradients


def by_hand(problem: Problem, loss: ByHand) -> Callable[[], Sequence[Tensor]]:
    program, x, K = problem.build(), problem.x, problem.particles
    parameters = list(program.parameters())
    return lambda: torch.autograd.grad(loss(program, x, draw(program, x, K)), parameters)


def by_ours(problem: Problem, objective: Callable[..., ELBO], tier: str = "off") -> Callable[[], Sequence[Tensor]]:
    from pplvm.graphs.compiled import compiled

    graph = compiled(Loss(objective(problem.particles), problem.build()), tier)
    return in_grad(graph.loss.program, lambda: graph.backward(problem.x))


def by_storchastic(problem: Problem, method: str) -> Callable[[], Sequence[Tensor]]:
    contestant = importlib.import_module("benchmarks.peers.with_storchastic").contestants(problem)[method]()
    return in_grad(contestant.program, contestant.backward)


def in_grad(program: nn.Module, backward: Callable[[], object]) -> Callable[[], Sequence[Tensor]]:
    parameters = list(program.parameters())

    def gradients() -> Sequence[Tensor]:
        for parameter in parameters:
            parameter.grad = None
        backward()
        return [parameter.grad for parameter in parameters]

    return gradients


def by_numpyro(problem: Problem, objective: str, chunk: int) -> Replicates:
    return importlib.import_module("benchmarks.peers.with_jax").replicates(problem, objective, chunk)


def in_chunks(problem: Problem, objective: Callable[..., ELBO], tier: str, by_factors: bool) -> Replicates:
    """Ours, vmapped over the noise; by factors, gradients of large weights stay products, told by Gram matrices.

    Otherwise those products are multiplied out, block by block, into memory that is used again.

    Raises:
        RuntimeError: nothing is left as factors.
    """
    from pplvm.estimators.replicates.vmapped import Replicates as Drawn

    loss, seeds = Loss(objective(problem.particles), problem.build()), count()
    loss(problem.x)
    parameters = list(loss.program.parameters())
    drawn = Drawn(loss, problem.x, parameters, tier=tier)
    if by_factors and "as factors" not in drawn.plan:
        raise RuntimeError(f"no factors: {drawn.plan}")
    rooms = [None if by_factors else p.new_empty(BLOCK, len(p), p.numel() // len(p)) for p in parameters]

    def moments(n: int) -> Moments:
        totals, squares = [torch.zeros_like(p).reshape(len(p), -1) for p in parameters], 0.0
        for chunk in drawn.draw([next(seeds) for _ in range(n)]):
            for gradient, room, total in zip(chunk.gradients, rooms, totals, strict=True):
                for seen in [gradient] if room is None else multiplied_out(gradient, room):
                    total += seen.total()
                    squares += seen.squares().double().sum()
        return moments_of(totals, float(squares), n)

    return Replicates(moments, drawn.size, drawn.plan)


def multiplied_out(gradient: Chunk, room: Tensor) -> Iterator[Dense]:
    if isinstance(gradient, Dense):
        yield gradient
        return
    for start in range(0, len(gradient), len(room)):
        rows = slice(start, start + len(room))
        yield Factors(gradient.left[rows], gradient.right[rows]).dense(room)


def judge_of(problem: Problem, method: Method, calls: int = 20) -> Callable[[str, Any], Verdict]:
    """Mean, along the trusted mean of each tensor, and total variance: both those of a loop by hand."""
    sizes = [p.numel() for p in problem.build().parameters()]

    @cache
    def trusted() -> tuple[Tensor, Tensor]:
        hand = Replicates(partial(in_a_loop, by_hand(problem, method.by_hand)))
        torch.manual_seed(1)
        direction = hand.moments(200).mean
        torch.manual_seed(2)
        return direction, told(hand, direction)

    def told(contestant: Replicates, direction: Tensor) -> Tensor:
        rows, n = [], min(AT_A_TIME, -(-20 // contestant.chunk) * contestant.chunk)
        for _ in range(calls):
            found = contestant.moments(n)
            along = [part.sum() for part in (found.mean * direction).split(sizes)]
            rows.append(torch.stack([*along, torch.tensor(found.variance, dtype=torch.float64)]))
        return torch.stack(rows)  # (calls, tensors + 1)

    def judge(name: str, contestant: Replicates) -> Verdict:
        direction, expected = trusted()
        torch.manual_seed(3)
        found = told(contestant, direction)
        if method.others_differ and name.startswith(("Pyro", "NumPyro")):
            distance, limit, _ = worst_distance(found[:, :-1], expected[:, :-1])
            text = f"mean; variance {found[:, -1].mean() / expected[:, -1].mean():.2g} times"
        else:
            distance, limit, resolution = worst_distance(found, expected)
            text = f"variance to {100 * resolution:.0f} %"
        off = f"mean or variance {distance:.1f} standard errors off, at most {limit:.1f} are chance"
        return Verdict(distance < limit, "; ".join(filter(None, [text, contestant.plan])) if distance < limit else off)

    return judge


if __name__ == "__main__":
    run("replicates", sections, rounds=5)
