"""The gradient that two ranks find on their halves of a batch, against that of one process on the whole."""

import torch
from torch.nn.parallel import DistributedDataParallel
from torch.overrides import TorchFunctionMode

from pplvm.bounds import elbo, iwae
from pplvm.distributed import collectives, data_parallel, ranks
from pplvm.graphs.compiled import compiled
from pplvm.objectives.baselines import MovingAverage
from pplvm.objectives.estimate import ObjectiveError
from pplvm.objectives.objective import Loss
from pplvm.objectives.pathwise import AnalyticKL
from pplvm.objectives.presets import pyro_renyi, pyro_trace_graph
from pplvm.objectives.score_function import LeaveOneOut, ScoreFunction
from pplvm.objectives.tempered import Beta, FreeBits, Warmup
from pplvm.particles.side_effects import without_side_effects
from pplvm.programs.mixture import MixtureOfGaussians
from pplvm.programs.sigmoid_belief import SigmoidBeliefNet
from pplvm.training.fit import fit
from tests.distributed.ranks.programs import B, Masked, my_half, vae, whole_batch, whole_batch_with_conditions
from tests.objectives.test_contract import EVERY, objective_and_program, with_plate


def gradients():
    """Of every objective, and of those that keep or floor what they see of a batch."""
    together = [(kind, name) for kind, name in EVERY if name != "beta-TCVAE"]  # which needs the whole batch
    makes = {
        f"{name} ({kind})": lambda kind=kind, name=name: objective_and_program(kind, name) for kind, name in together
    }
    makes |= {
        "warm-up": lambda: (Warmup(Beta(LeaveOneOut(elbo, 3), 0.5), 4), objective_and_program(*EVERY[0])[1]),
        "moving average": lambda: (ScoreFunction(elbo, 2, MovingAverage()), objective_and_program(*EVERY[0])[1]),
        "free bits": lambda: (FreeBits(AnalyticKL(), between_halves()), vae()),
    }
    found = {name: apart_from_one_process(make) for name, make in makes.items()}
    mixture = torch.randn(B, 2, generator=torch.Generator().manual_seed(0))
    for name in ("exact", "local"):
        make = lambda name=name: (objective_and_program("belief net", name)[0], MixtureOfGaussians())
        found[f"{name} (mixture)"] = apart_from_one_process(make, mixture)
    plain = lambda loss, x: DistributedDataParallel(loss)
    traps = {name: apart_from_one_process(makes[name], wrap=plain) for name in ("moving average", "free bits")}
    return {"found": found, "traps": traps}


def whole_batch_needed():
    """What an objective that mixes the guides of a batch says where each rank has a half of it."""
    objective, program = objective_and_program("VAE", "beta-TCVAE")
    try:
        data_parallel.parallel(Loss(objective, program), mine := ranks.my_share(whole_batch()))(mine)
    except ObjectiveError as error:
        return {"told": str(error)}
    return {"told": ""}


def gradients_of_pyros_own():
    """Against the mean of what one process finds on each half, at the seeds of the ranks."""
    found, x = {}, whole_batch()
    nets = {"TraceGraph_ELBO": (pyro_trace_graph, lambda: SigmoidBeliefNet(8, (2,))), "RenyiELBO": (pyro_renyi, vae)}
    for name, (objective, program) in nets.items():
        torch.manual_seed(1)
        loss, halves = Loss(objective(), program()), []
        loss(x[: B // 2])  # Pyro draws to count plates
        for half, seed in zip(x.chunk(2), (5, 6), strict=True):
            torch.manual_seed(seed)
            loss.zero_grad()
            loss(half).backward()
            halves.append(gradient(loss))
        loss.zero_grad()
        together = data_parallel.parallel(loss, ranks.my_share(x))
        torch.manual_seed(5 + ranks.rank())
        together(ranks.my_share(x)).backward()
        found[name] = float((gradient(together) - sum(halves) / 2).abs().max() / halves[0].abs().max())
    return found


def plate_of_all_the_data():
    make = lambda: (LeaveOneOut(iwae, 3), with_plate(lambda x: (60, None, torch.arange(len(x)))))
    return {"apart": apart_from_one_process(make)}


def conditions():
    """Labels and masks go with their rows, whether the loss is plain or a graph, by `backward` and in `fit`."""
    batch, mine = whole_batch_with_conditions(), ranks.my_share(whole_batch_with_conditions())
    alone, found = Masked(), {"shapes": [tuple(part.shape) for part in mine]}
    truth = alone(*batch)
    truth.backward()
    for name, wrap in {"plain": lambda loss: loss, "graph": lambda loss: compiled(loss, "graph")}.items():
        together = data_parallel.parallel(wrap(Masked()), mine)
        value = collectives.all_reduce_mean(together.backward(*mine))
        found[name] = max(float((gradient(together) - gradient(alone)).abs().max()), abs(float(value - truth.detach())))
        fit(together, 3 * [mine], torch.optim.SGD(together.parameters(), 0.05)).run()
        found[f"{name}, trained"] = torch.cat([p.detach().flatten() for p in together.parameters()])
    fit(alone, 3 * [batch], torch.optim.SGD(alone.parameters(), 0.05)).run()
    return found | {"trained alone": torch.cat([p.detach().flatten() for p in alone.parameters()])}


def apart_from_one_process(make, x=None, wrap=data_parallel.parallel, steps=2):
    """How far gradients and buffers are from those of one process with the whole batch, over their size."""
    x = whole_batch() if x is None else x
    together, alone, worst = wrap(Loss(*make()), x[my_half()]), Loss(*make()), 0.0
    with collectives.synchronized_forward(), without_side_effects(alone, [x]):
        alone(x)  # the first batch is checked, which draws
    for step in range(steps):
        for loss, rows in ((together, my_half()), (alone, slice(B))):
            loss.zero_grad()
            with NoiseOfData(step, rows):
                loss(x[rows]).backward()
        found, truth = gradient(together), gradient(alone)
        worst = max(worst, float((found - truth).abs().max() / truth.abs().max()))
        for loss in (together, alone):
            torch.optim.SGD(loss.parameters(), 0.05).step()
    for mine, other in zip(together.buffers(), alone.buffers(), strict=True):
        worst = max(worst, float((mine - other).abs().max() / other.abs().max().clamp(min=1e-9)))
    return worst


class NoiseOfData(TorchFunctionMode):
    """Draws in which each datum's noise is its own, however the batch is shared out among ranks."""

    def __init__(self, seed, rows):
        super().__init__()
        self.generator, self.rows = torch.Generator().manual_seed(seed), rows

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in (torch.rand_like, torch.randn_like):
            return self.drawn(torch.randn if func is torch.randn_like else torch.rand, args[0].shape)
        if func in (torch.rand, torch.randn):
            return self.drawn(func, torch.empty(args, device="meta").shape)
        if func is torch.bernoulli:
            return (self.drawn(torch.rand, args[0].shape) < args[0]).to(args[0].dtype)
        if func is torch.Tensor.normal_:
            return args[0].copy_(self.drawn(torch.randn, args[0].shape))
        if func is torch.multinomial:
            return (self.drawn(torch.rand, args[0].shape[:1]).unsqueeze(1) > args[0].cumsum(1)).sum(1, keepdim=True)
        return func(*args, **kwargs)

    def drawn(self, draw, shape):
        mine = len(range(B)[self.rows])
        place = next(d for d, length in enumerate(shape) if length and length % mine == 0)
        full = (*shape[:place], shape[place] // mine, B, *shape[place + 1 :])
        table = draw(full, generator=self.generator)
        return table.movedim(place + 1, 0)[self.rows].movedim(0, place + 1).reshape(shape)


def gradient(loss):
    return torch.cat([p.grad.flatten() for p in loss.parameters() if p.grad is not None])


@torch.no_grad()
def between_halves():
    """A floor that the KL of one half exceeds, and that of the whole does not."""
    halves = []
    for rows in (slice(0, B // 2), slice(B // 2, B)):
        loc, log_scale = vae().encoder(whole_batch()[rows]).chunk(2, -1)
        halves.append(float((loc**2 + (2 * log_scale).exp() - 1 - 2 * log_scale).sum(-1).mean() / 2))
    return sum(halves) / 2 + abs(halves[0] - halves[1]) / 4
