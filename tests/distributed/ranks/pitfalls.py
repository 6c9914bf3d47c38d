"""Each pitfall of data parallelism as both ranks see it; all cases meet at the same points, in one order."""

import sys
from pathlib import Path

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from pplvm.bounds import elbo, iwae
from pplvm.distributed import collectives, data_parallel, ranks
from pplvm.evaluation.per_datum import datum_seeds, draw_in_chunks, each_datum, evaluation_mode
from pplvm.objectives.baselines import MovingAverage
from pplvm.objectives.objective import Loss
from pplvm.objectives.pathwise import Pathwise
from pplvm.objectives.score_function import LeaveOneOut, ScoreFunction
from pplvm.objectives.tempered import Warmup
from pplvm.particles.dependencies import dependents_of
from pplvm.particles.pair import draw_from_pair
from pplvm.programs.sigmoid_belief import SigmoidBeliefNet
from pplvm.training.fit import fit
from pplvm.training.stages import train_only
from tests.distributed.ranks.programs import (
    B,
    Branching,
    Heads,
    Lazy,
    Normed,
    Standardized,
    Subsampling,
    my_half,
    vae,
    whole_batch,
)


def lazy_guide():
    torch.manual_seed(ranks.rank())  # so that what each makes by itself differs
    loss, x = Loss(Pathwise(), Lazy()), ranks.my_share(whole_batch())
    refused = refusal(lambda: DistributedDataParallel(loss))
    state = torch.get_rng_state()
    together = data_parallel.parallel(loss, x)
    same = torch.equal(state, torch.get_rng_state())
    together(x).backward()
    made = sorted(name for name, p in loss.named_parameters() if p.grad is not None)
    return {"refused": refused, "same random state": same, "shift": loss.program.shift.detach(), "made": made}


def the_trial_leaves_no_trace():
    loss = Loss(Warmup(ScoreFunction(elbo, 2, MovingAverage()), 4), SigmoidBeliefNet(8, (2,)))
    x = whole_batch()
    loss(x)  # from a state that is no start
    before = {name: tensor.clone() for name, tensor in loss.state_dict().items()}
    data_parallel.parallel(loss, ranks.my_share(x))
    return {name: torch.equal(before[name], tensor) for name, tensor in loss.state_dict().items()}


def subsampling_within():
    torch.manual_seed(0)
    program, x = Subsampling(8, 2, (5,)), whole_batch()
    together = data_parallel.parallel(Loss(Pathwise(), program), x)
    found = {}
    for name, seed in {"one seed": 3, "own seeds": ranks.seed_of_rank(3)}.items():
        torch.manual_seed(seed)
        together(x).backward()
        found[name] = program.rows.tolist()
    return found


def noise():
    found = {}
    for name, seed in {"one seed": 3, "own seeds": ranks.seed_of_rank(3)}.items():
        torch.manual_seed(seed)
        found[name] = torch.randn(4)
    return found | {"seeds": [ranks.seed_of_rank(seed) for seed in range(3)]}


def unused_parameters():
    x = ranks.my_share(whole_batch())
    head = data_parallel.parallel(Heads(), x)
    found = {"tried": steps_of(head, x), "unused has no gradient": head.module.other.weight.grad is None}
    found["not looked for"] = steps_of(data_parallel.parallel(Heads(), x, find_unused=False), x)
    found["sometimes"] = steps_of(data_parallel.parallel(Heads(sometimes=True), x), x)
    found["sometimes, told"] = steps_of(data_parallel.parallel(Heads(sometimes=True), x, find_unused=True), x)
    return found


def around_the_forward():
    torch.manual_seed(0)
    loss = Loss(Pathwise(), vae())
    x, found = ranks.my_share(whole_batch()), {}
    together = data_parallel.parallel(loss, x)
    found["refused"] = steps_of(loss, x, 1)
    with torch.no_grad():
        found["without gradient"] = bool(loss(x).isfinite())
    found["evaluating"] = steps_of(loss.eval(), x, 1)
    loss.train()
    together(x).backward()
    torch.optim.SGD(loss.parameters(), 0.1).step()
    data_parallel.require_equal(loss)
    loss.zero_grad()
    loss.objective.differentiable_loss(loss.program.model, loss.program.guide, x).backward()
    torch.optim.SGD(loss.parameters(), 0.1).step()
    return found | {"drifted": refusal(lambda: data_parallel.require_equal(loss, "at step 2"))}


def batch_norm():
    torch.manual_seed(0)
    loss, alone, halves = Loss(Pathwise(), Normed()), nn.BatchNorm1d(8), (nn.BatchNorm1d(8), nn.BatchNorm1d(8))
    together, x = data_parallel.parallel(loss, ranks.my_share(whole_batch())), whole_batch()
    for _ in range(3):
        together(ranks.my_share(x)).backward()
        for norm, rows in ((alone, x), *zip(halves, x.chunk(2), strict=True)):
            norm(rows)
    norm = loss.program.encoder[0]
    return {
        "mean": norm.running_mean,
        "mean of one process": alone.running_mean,
        "mean of half": halves[0].running_mean,
        "variance": norm.running_var,
        "variance of one process": alone.running_var,
        "mean of variances": (halves[0].running_var + halves[1].running_var) / 2,
        "batches": int(norm.num_batches_tracked),
    }


def frozen_part():
    """What is frozen stays the same bit by bit on both, its running statistics too, and the rest learns."""
    loss, x = Loss(Pathwise(), Normed()), ranks.my_share(whole_batch())
    train_only(loss.program, "decoder")
    before = {name: tensor.clone() for name, tensor in loss.state_dict().items()}
    fit(data_parallel.parallel(loss, x), 3 * [x], torch.optim.Adam(loss.parameters())).run()
    data_parallel.require_equal(loss)
    return [name for name, tensor in loss.state_dict().items() if not torch.equal(before[name], tensor)]


def start_from_the_first_batch():
    x, found = ranks.my_share(whole_batch()), {}
    shared = Standardized(of_all=True)
    data_parallel.parallel(shared, x)(x).backward()
    found["own"] = steps_of(data_parallel.parallel(Standardized(of_all=False), x), x, 1)
    return found | {"shared": shared.shift.detach(), "mean": whole_batch().mean(0)}


def rows_without_duplicates():
    found = {}
    for n in range(6):
        own = torch.arange(n)[ranks.my_rows(n)]
        found[n] = (own.tolist(), collectives.all_gather_rows(own, n).tolist())
    table = torch.arange(10.0).reshape(5, 2)
    found["table"] = collectives.all_gather_rows(table[ranks.my_rows(5)], 5)
    found["flags"] = collectives.all_gather_rows((table[:, 0] > 3)[ranks.my_rows(5)], 5)
    return found | {"refused": refusal(lambda: collectives.all_gather_rows(table, 5))}


def evaluation_of_shards():
    x, program = whole_batch()[:5], vae()

    def bounds(rows):
        with evaluation_mode(program, x) as pair:
            each = [
                next(draw_in_chunks(pair, row, 10)).log_weights for row in each_datum(x[rows], datum_seeds(x, 0)[rows])
            ]
            return torch.cat([iwae(log_weights) for log_weights in each])

    return {"together": collectives.all_gather_rows(bounds(ranks.my_rows(5)), 5), "alone": bounds(slice(5))}


def dependencies():
    x = torch.zeros(B, 8)
    x[: B // 2, 0] = 1.0
    found = {}
    for name in ("parallel", "by itself"):
        torch.manual_seed(0)
        loss, mine = Loss(LeaveOneOut(elbo, 2), Branching(8, 2, (5,))), x[my_half()]
        data_parallel.parallel(loss, mine) if name == "parallel" else loss(mine)
        pair = loss.objective._pairs.last
        found[name] = sorted(dependents_of(pair, draw_from_pair(pair, 2, (mine,), {}), (mine,), {})["y"].model)
    return found


def small_things():
    folder = Path(sys.argv[1]) / collectives.broadcast_object(f"run of rank {ranks.rank()}")
    if ranks.is_first():
        folder.mkdir()
        (folder / "config.yaml").write_text("written")
    collectives.barrier()
    return {
        "read": (folder / "config.yaml").read_text(),
        "tensor": collectives.broadcast_object(torch.full((2,), float(ranks.rank()))),
        "total": collectives.all_reduce_sum(torch.tensor([1.0, ranks.rank()])),
        "mean": collectives.all_reduce_mean(torch.tensor([1.0, ranks.rank()])),
        "any": [collectives.any_rank(ranks.rank() == 1), collectives.any_rank(False)],
        "outside of a step": collectives.shared_mean(torch.tensor(float(ranks.rank()))),
        "share": ranks.my_share(torch.arange(4)),
        "shares": collectives.all_gather_shares(ranks.my_share(torch.arange(8).reshape(4, 2))),
        "unequal": refusal(lambda: collectives.all_gather_shares(torch.zeros(2 + ranks.rank()))),
        "uneven": refusal(lambda: ranks.my_share(torch.zeros(3))),
    }


def nan_on_one_rank():
    loss = Loss(Pathwise(), vae())
    x, stopped = ranks.my_share(whole_batch()), None
    together = data_parallel.parallel(loss, x)
    for step in range(5):
        value = together(x) * (torch.nan if (ranks.rank(), step) == (1, 2) else 1.0)
        if collectives.any_rank(not value.isfinite()):
            stopped = step
            break
        value.backward()
    return {"stopped": stopped, "finite here": bool(value.isfinite())}


def a_second_fit():
    """The same loss made parallel again, in train mode as the first time; not in eval mode."""
    loss, x = Loss(ScoreFunction(elbo, 2, MovingAverage()), SigmoidBeliefNet(8, (2,))), ranks.my_share(whole_batch())
    found = [steps_of(data_parallel.parallel(loss, x), x) for _ in range(2)]
    data_parallel.require_equal(loss)
    return {"complaints": found, "in eval mode": refusal(lambda: data_parallel.parallel(loss.eval(), x))}


def steps_of(loss, x, steps=3):
    return refusal(lambda: [loss(x).backward() for _ in range(steps)])


def refusal(call):
    try:
        call()
    except (RuntimeError, ValueError) as error:
        return str(error)
    return "no complaint"
