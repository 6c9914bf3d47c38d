"""Codebooks that two ranks train on halves of the batches, beside one process that has all of them."""

import copy

import torch

from pplvm.distributed import data_parallel, ranks
from pplvm.graphs.compiled import compiled
from pplvm.networks.codebook import Codebook, MovingAverageCodebook
from pplvm.training.stepper import Stepper
from tests.networks.test_codebook import Quantized


def codebooks():
    return {
        f"{kind.__name__}, {tier}, {restart_below}": trained(kind, tier, restart_below)
        for kind in (Codebook, MovingAverageCodebook)
        for tier in ("off", "graph")
        for restart_below in (0.0, 0.5)
    }


def trained(kind, tier, restart_below):
    torch.manual_seed(4)
    loss = Quantized(kind(6, 2, restart_below=restart_below, decay=0.5))
    whole = copy.deepcopy(loss)
    batches = torch.randn(6, 12, 3).unbind()
    together = data_parallel.parallel(compiled(loss, tier), ranks.my_share(batches[0]))
    at_start = [bool(torch.equal(a, b)) for a, b in zip(loss.buffers(), whole.buffers(), strict=True)]
    stepper = Stepper(together, torch.optim.SGD(loss.parameters(), lr=0.01))
    optimizer = torch.optim.SGD(whole.parameters(), lr=0.01)
    seen = []
    for x in batches:
        stepper(ranks.my_share(x))
        data_parallel.require_equal(loss, "after the forward pass")
        stepper.end_step()
        data_parallel.require_equal(loss, "after the step")
        seen.append(loss.codebook.codes.detach().clone())
        optimizer.zero_grad()
        whole(x).backward()
        optimizer.step()
        whole.codebook.after_step(lambda rows: rows)
    pairs = zip(loss.state_dict().items(), whole.state_dict().values(), strict=True)
    apart = {name: float((a - b).abs().max()) for (name, a), b in pairs}
    return {"apart": apart, "trial left no trace": all(at_start), "codes": seen, "usage": loss.codebook.usage()}
