"""What `test_distributed.py` has two ranks do: `torchrun ... ranks.py FOLDER`; each writes what it finds, RANK.pt."""

import sys
from pathlib import Path

import pyro
import pyro.distributions as dist
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.overrides import TorchFunctionMode

from pplvm import distributed as ranks
from pplvm.bounds import elbo, iwae
from pplvm.evaluation.one_by_one import each_datum, frozen, particles_of
from pplvm.objectives.baselines import MovingAverage
from pplvm.objectives.objective import Loss
from pplvm.objectives.pathwise import AnalyticKL, Pathwise
from pplvm.objectives.presets import pyro_renyi, pyro_trace_graph
from pplvm.objectives.score_function import LeaveOneOut, ScoreFunction
from pplvm.objectives.tempered import Beta, FreeBits, Warmup
from pplvm.programs.mixture import MixtureOfGaussians
from pplvm.programs.sigmoid_belief import SigmoidBeliefNet
from pplvm.programs.vae import VAE
from tests.objectives.test_contract import EVERY, objective_and_program, with_plate

B = 14  # a size of nothing else here, nor is half of it, by which noise finds the data's dimension
CASES = {}


def case(function):
    CASES[function.__name__] = function
    return function


def whole_batch():
    return (torch.rand(B, 8, generator=torch.Generator().manual_seed(2)) < 0.4).double()


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


def my_half():
    share = B // ranks.size()
    return slice(ranks.rank() * share, (ranks.rank() + 1) * share)


def gradient(loss):
    return torch.cat([p.grad.flatten() for p in loss.parameters() if p.grad is not None])


def apart_from_one_process(make, x=None, wrap=ranks.parallel, steps=2):
    """How far gradients and buffers are from those of one process with the whole batch, over their size."""
    x = whole_batch() if x is None else x
    together, alone, worst = wrap(Loss(*make()), x[my_half()]), Loss(*make()), 0.0
    alone.eval()(x)  # the first batch is checked, which draws
    alone.train()
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


@case
def gradients():
    """Of every objective, and of those that keep or floor what they see of a batch."""
    makes = {f"{name} ({kind})": lambda kind=kind, name=name: objective_and_program(kind, name) for kind, name in EVERY}
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


def vae():
    torch.manual_seed(1)
    return VAE(8, 2, (5,))


@torch.no_grad()
def between_halves():
    """A floor that the KL of one half exceeds, and that of the whole does not."""
    halves = []
    for rows in (slice(0, B // 2), slice(B // 2, B)):
        loc, log_scale = vae().encoder(whole_batch()[rows]).chunk(2, -1)
        halves.append(float((loc**2 + (2 * log_scale).exp() - 1 - 2 * log_scale).sum(-1).mean() / 2))
    return sum(halves) / 2 + abs(halves[0] - halves[1]) / 4


@case
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
        together = ranks.parallel(loss, ranks.my_share(x))
        torch.manual_seed(5 + ranks.rank())
        together(ranks.my_share(x)).backward()
        found[name] = float((gradient(together) - sum(halves) / 2).abs().max() / halves[0].abs().max())
    return found


class Lazy(VAE):
    """A guide that makes its parameters when it is first run, as Pyro's AutoGuides do."""

    def __init__(self):
        super().__init__(8, 2, (5,))
        self.encoder = nn.LazyLinear(4)

    def guide(self, x):
        if not hasattr(self, "shift"):
            self.shift = nn.Parameter(torch.randn(2))
        loc, log_scale = self.encoder(x).chunk(2, dim=-1)
        with pyro.plate("batch", len(x)):
            pyro.sample("z", dist.Normal(loc + self.shift, log_scale.exp()).to_event(1))


@case
def lazy_guide():
    torch.manual_seed(ranks.rank())  # so that what each makes by itself differs
    loss, x = Loss(Pathwise(), Lazy()), ranks.my_share(whole_batch())
    refused = refusal(lambda: DistributedDataParallel(loss))
    state = torch.get_rng_state()
    together = ranks.parallel(loss, x)
    same = torch.equal(state, torch.get_rng_state())
    together(x).backward()
    made = sorted(name for name, p in loss.named_parameters() if p.grad is not None)
    return {"refused": refused, "same random state": same, "shift": loss.program.shift.detach(), "made": made}


@case
def the_trial_leaves_no_trace():
    loss = Loss(Warmup(ScoreFunction(elbo, 2, MovingAverage()), 4), SigmoidBeliefNet(8, (2,)))
    x = whole_batch()
    loss(x)  # from a state that is no start
    before = {name: tensor.clone() for name, tensor in loss.state_dict().items()}
    ranks.parallel(loss, ranks.my_share(x))
    return {name: torch.equal(before[name], tensor) for name, tensor in loss.state_dict().items()}


@case
def plate_of_all_the_data():
    make = lambda: (LeaveOneOut(iwae, 3), with_plate(lambda x: (60, None, torch.arange(len(x)))))
    return {"apart": apart_from_one_process(make)}


class Subsampling(VAE):
    """Given all the data, it picks some by itself."""

    def model(self, x):
        with pyro.plate("batch", len(x), subsample_size=4) as self.rows:
            z = pyro.sample("z", dist.Normal(self.zeros, 1.0).to_event(1))
            logits = self.decoder(z)
            pyro.sample("x", dist.Bernoulli(logits=logits).to_event(1), obs=x[self.rows])

    def guide(self, x):
        with pyro.plate("batch", len(x), subsample_size=4) as rows:
            loc, log_scale = self.encoder(x[rows]).chunk(2, dim=-1)
            pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))


@case
def subsampling_within():
    torch.manual_seed(0)
    program, x = Subsampling(8, 2, (5,)), whole_batch()
    together = ranks.parallel(Loss(Pathwise(), program), x)
    found = {}
    for name, seed in {"one seed": 3, "own seeds": ranks.seed_of_rank(3)}.items():
        torch.manual_seed(seed)
        together(x).backward()
        found[name] = program.rows.tolist()
    return found


@case
def noise():
    found = {}
    for name, seed in {"one seed": 3, "own seeds": ranks.seed_of_rank(3)}.items():
        torch.manual_seed(seed)
        found[name] = torch.randn(4)
    return found | {"seeds": [ranks.seed_of_rank(seed) for seed in range(3)]}


class Heads(nn.Module):
    """One of two heads is used, or both from the second step on."""

    def __init__(self, sometimes=False):
        super().__init__()
        self.used, self.other, self.sometimes, self.steps = nn.Linear(8, 1), nn.Linear(8, 1), sometimes, 0

    def forward(self, x):
        self.steps += 1
        both = self.sometimes and self.steps == 1
        return (self.used(x) + (self.other(x) if both else 0.0)).mean()


def steps_of(loss, x, steps=3):
    return refusal(lambda: [loss(x).backward() for _ in range(steps)])


def refusal(call):
    try:
        call()
    except (RuntimeError, ValueError) as error:
        return str(error)
    return "no complaint"


@case
def unused_parameters():
    x = ranks.my_share(whole_batch())
    head = ranks.parallel(Heads(), x)
    found = {"tried": steps_of(head, x), "unused has no gradient": head.module.other.weight.grad is None}
    found["not looked for"] = steps_of(ranks.parallel(Heads(), x, find_unused=False), x)
    found["sometimes"] = steps_of(ranks.parallel(Heads(sometimes=True), x), x)
    found["sometimes, told"] = steps_of(ranks.parallel(Heads(sometimes=True), x, find_unused=True), x)
    return found


@case
def around_the_forward():
    torch.manual_seed(0)
    loss = Loss(Pathwise(), vae())
    x, found = ranks.my_share(whole_batch()), {}
    together = ranks.parallel(loss, x)
    found["refused"] = steps_of(loss, x, 1)
    with torch.no_grad():
        found["without gradient"] = bool(loss(x).isfinite())
    found["evaluating"] = steps_of(loss.eval(), x, 1)
    loss.train()
    together(x).backward()
    torch.optim.SGD(loss.parameters(), 0.1).step()
    ranks.require_equal(loss)
    loss.zero_grad()
    loss.objective.differentiable_loss(loss.program.model, loss.program.guide, x).backward()
    torch.optim.SGD(loss.parameters(), 0.1).step()
    return found | {"drifted": refusal(lambda: ranks.require_equal(loss, "at step 2"))}


class Normed(VAE):
    def __init__(self):
        super().__init__(8, 2, (5,))
        self.encoder = nn.Sequential(nn.BatchNorm1d(8), self.encoder)


@case
def batch_norm():
    torch.manual_seed(0)
    loss, alone, halves = Loss(Pathwise(), Normed()), nn.BatchNorm1d(8), (nn.BatchNorm1d(8), nn.BatchNorm1d(8))
    together, x = ranks.parallel(loss, ranks.my_share(whole_batch())), whole_batch()
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


class Standardized(nn.Module):
    """Starts from the statistics of its first batch, as activation normalization does."""

    def __init__(self, of_all):
        super().__init__()
        self.of_all, self.shift = of_all, nn.Parameter(torch.zeros(8))
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))

    def forward(self, x):
        if self.training and not self.started:
            with torch.no_grad():
                self.shift.copy_(ranks.shared_mean(x.mean(0)) if self.of_all else x.mean(0))
                self.started.fill_(True)
        return (x - self.shift).square().mean()


@case
def start_from_the_first_batch():
    x, found = ranks.my_share(whole_batch()), {}
    shared = Standardized(of_all=True)
    ranks.parallel(shared, x)(x).backward()
    found["own"] = steps_of(ranks.parallel(Standardized(of_all=False), x), x, 1)
    return found | {"shared": shared.shift.detach(), "mean": whole_batch().mean(0)}


@case
def rows_without_duplicates():
    found = {}
    for n in range(6):
        own = torch.arange(n)[ranks.my_rows(n)]
        found[n] = (own.tolist(), ranks.gathered(own, n).tolist())
    table = torch.arange(10.0).reshape(5, 2)
    found["table"] = ranks.gathered(table[ranks.my_rows(5)], 5)
    found["flags"] = ranks.gathered((table[:, 0] > 3)[ranks.my_rows(5)], 5)
    return found | {"refused": refusal(lambda: ranks.gathered(table, 5))}


@case
def evaluation_of_shards():
    x, program = whole_batch()[:5], vae()

    def bounds(rows):
        with frozen(program, x) as pair:
            each = [next(particles_of(pair, row, 10)).log_weights for row in each_datum(rows, seed=0)]
            return torch.cat([iwae(log_weights) for log_weights in each])

    return {"together": ranks.gathered(bounds(x[ranks.my_rows(5)]), 5), "alone": bounds(x)}


class Branching(VAE):
    """Two latents; whether the model reads the second depends on the data."""

    def model(self, x):
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Bernoulli(0.5 * torch.ones(2)).to_event(1))
            y = pyro.sample("y", dist.Bernoulli(0.5 * torch.ones(2)).to_event(1))
            read = torch.cat([z, y if x[0, 0] > 0 else torch.zeros(2).expand(z.shape)], -1)
            pyro.sample("x", dist.Bernoulli(logits=self.decoder(read[..., :2] + read[..., 2:])).to_event(1), obs=x)

    def guide(self, x):
        with pyro.plate("batch", len(x)):
            first, second = self.encoder(x).chunk(2, -1)
            pyro.sample("z", dist.Bernoulli(logits=first).to_event(1))
            pyro.sample("y", dist.Bernoulli(logits=second).to_event(1))


@case
def dependencies():
    x = torch.zeros(B, 8)
    x[: B // 2, 0] = 1.0
    found = {}
    for name in ("parallel", "by itself"):
        torch.manual_seed(0)
        loss, mine = Loss(LeaveOneOut(elbo, 2), Branching(8, 2, (5,))), x[my_half()]
        ranks.parallel(loss, mine) if name == "parallel" else loss(mine)
        found[name] = sorted(loss.objective._dependencies._found["y"].model)
    return found


@case
def small_things():
    folder = Path(sys.argv[1]) / ranks.from_first(f"run of rank {ranks.rank()}")
    if ranks.is_first():
        folder.mkdir()
        (folder / "config.yaml").write_text("written")
    ranks.wait()
    return {
        "read": (folder / "config.yaml").read_text(),
        "tensor": ranks.from_first(torch.full((2,), float(ranks.rank()))),
        "total": ranks.total(torch.tensor([1.0, ranks.rank()])),
        "mean": ranks.mean(torch.tensor([1.0, ranks.rank()])),
        "any": [ranks.any_rank(ranks.rank() == 1), ranks.any_rank(False)],
        "outside of a step": ranks.shared_mean(torch.tensor(float(ranks.rank()))),
        "share": ranks.my_share(torch.arange(4)),
        "uneven": refusal(lambda: ranks.my_share(torch.zeros(3))),
    }


@case
def nan_on_one_rank():
    loss = Loss(Pathwise(), vae())
    x, stopped = ranks.my_share(whole_batch()), None
    together = ranks.parallel(loss, x)
    for step in range(5):
        value = together(x) * (torch.nan if (ranks.rank(), step) == (1, 2) else 1.0)
        if ranks.any_rank(not value.isfinite()):
            stopped = step
            break
        value.backward()
    return {"stopped": stopped, "finite here": bool(value.isfinite())}


if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    found = {}
    with ranks.join("cpu", timeout_seconds=30):
        for name, function in CASES.items():
            torch.manual_seed(0)
            print(f"rank {ranks.rank()}: {name}", flush=True)
            found[name] = function()
        torch.save(found, Path(sys.argv[1]) / f"{ranks.rank()}.pt")
