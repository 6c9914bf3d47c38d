"""The gradient rules of VQ-VAEs beside each other: what each gets wrong, and how well each trains.

One program: an encoder, N = 4 codes of K = 16, a decoder. Straight-through and rotation train it with the nearest code
as posterior, codes that start at data, penalties .25 N (commitment) and 1 (codebook); all others with codes drawn by
distance, from a normal, at a learned temperature, since codes that start at data are too close for it to tell apart.
All 65,536 tuples of codes are decoded once, so log p(x) is exact, the same question to every rule, whatever its own
bound is. Adam at 3e-3, batches of 50; a run is judged at its best look at the validation split.

    python examples/vq_estimators.py                          digits
    python examples/vq_estimators.py --data-root FOLDER       static binarized MNIST, binarized_mnist.npz or .amat files
    python examples/vq_estimators.py --rules rloo,vimco --seeds 0,1

A run, one rule and one seed, ends after the steps and the seconds of both budgets; then its row is appended to
runs/vq_estimators.jsonl, and it is not run again. The bias, the variance and the time of one gradient are a command:

    pplvm compare --program vq-vae --set posterior=stochastic --set initial_codes=normal --set num_codes=8
"""

import argparse
import json
import time
from collections.abc import Callable
from copy import deepcopy
from itertools import islice
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from pyro.infer import ELBO
from torch import Tensor
from torch.nn.functional import softplus
from torch.optim import Adam

import pplvm
from pplvm.bounds import iwae
from pplvm.data.epochs import Epochs
from pplvm.data.image_data import ImageData
from pplvm.data.images import binarized_mnist, digits
from pplvm.objectives.objective import Loss
from pplvm.programs.vq_vae import VQVAE, vq_vae

BATCH, RATE, GRID, K, CODE_SIZE = 50, 3e-3, (2, 2), 16, 4
PIECE, LOOK = 25, 1000


def nearest() -> ELBO:
    return pplvm.Penalized(pplvm.BiasedPathwise(), {"commitment": 0.25 * GRID[0] * GRID[1], "codebook": 1.0})


RULES: dict[str, tuple[str, Callable[[], ELBO]]] = {  # posterior, objective
    "straight-through": ("nearest", nearest),
    "rotation": ("rotation", nearest),
    "softmax-st": ("stochastic", pplvm.BiasedStraightThrough),
    "gumbel-st": ("stochastic", pplvm.BiasedStraightThroughGumbel),
    "concrete": ("stochastic", pplvm.BiasedConcrete),
    "reinmax": ("stochastic", pplvm.BiasedReinMax),
    "gumbel-rao": ("stochastic", pplvm.BiasedGumbelRao),
    "rebar": ("stochastic", pplvm.REBAR),
    "rloo": ("stochastic", lambda: pplvm.LeaveOneOut(num_particles=4)),
    "vimco": ("stochastic", lambda: pplvm.LeaveOneOut(iwae, 4)),
    "disarm": ("stochastic", pplvm.DisARM),
    "local-expectation": ("stochastic", pplvm.LocalExpectation),
}


def main(
    data_root: str | None = None,
    rules: str = ",".join(RULES),
    seeds: str = "0,1,2,3,4",
    steps: int = 3000,
    seconds: float = 20.0,
    tested: int = 1000,
    path: str = "runs/vq_estimators.jsonl",
) -> list[dict[str, Any]]:
    """The rows of all runs that the file holds by then."""
    torch.set_num_threads(1)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    known = {"data": data_root and "binarized-mnist", "max_steps": steps, "max_seconds": seconds, "tested": tested}
    train, valid, test = (read(split, data_root) for split in ("train", "valid", "test"))
    found = rows_of(path, known)
    for seed in map(int, seeds.split(",")):
        for rule in rules.split(","):
            if not any(row["rule"] == rule and row["seed"] == seed for row in found):
                new = run(rule, seed, train, some(valid, tested // 2), some(test, tested), steps, seconds)
                found += [known | row for row in new]
                with Path(path).open("a") as file:
                    file.writelines(json.dumps(known | row) + "\n" for row in new)
        print(f"\nto seed {seed}\n{table(found)}", flush=True)
    return found


def read(split: str, data_root: str | None) -> ImageData:
    if data_root is None:
        return pplvm.binarize(digits(split), "static")
    return binarized_mnist(split, data_root)


def some(data: ImageData, number: int) -> Tensor:
    """Evenly spread over the split, flattened: (number, D)."""
    return data.rows(torch.arange(0, len(data), max(1, len(data) // number))).flatten(1)


def rows_of(path: str, known: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows that the file holds of runs with these settings."""
    lines = Path(path).read_text().splitlines() if Path(path).exists() else []
    return [row for row in map(json.loads, lines) if known.items() <= row.items()]


def run(
    rule: str, seed: int, train: ImageData, valid: Tensor, test: Tensor, steps: int, seconds: float
) -> list[dict[str, Any]]:
    """Train until both budgets are spent, of steps and of seconds of the processor in training: a row for each."""
    posterior, make = RULES[rule]
    torch.manual_seed(seed)
    examples = None if posterior == "stochastic" else some(train, 500)[:500]  # whose codes start at data
    known: dict[str, Any] = {"data_mean": train.mean(), "data_examples": examples}
    program = vq_vae(valid.shape[1], GRID, K, CODE_SIZE, posterior=posterior, **known)
    loss = Loss(make(), program)
    step = pplvm.compiled(loss, "graph")
    optimizer, batches = Adam(loss.parameters(), lr=RATE, fused=True), Epochs(train, BATCH, seed=seed)
    best: dict[str, dict[str, Any]] = {"steps": {"validation": torch.inf}, "seconds": {"validation": torch.inf}}
    taken, used, left = 0, 0.0, set(best)
    while left:
        started = time.process_time()
        pplvm.fit(step, islice(batches, PIECE), optimizer).run()
        taken, used = taken + PIECE, used + time.process_time() - started
        spent = {budget for budget, over in (("steps", taken >= steps), ("seconds", used >= seconds)) if over} & left
        if spent or taken % LOOK == 0:
            validation = -float(log_p(program, valid).mean())
            now = {"validation": validation, "best": taken, "state": deepcopy(loss.state_dict())}
            best |= {budget: now for budget in left if validation < best[budget]["validation"]}
            best |= {budget: best[budget] | {"taken": taken, "seconds": used} for budget in spent}
            left -= spent
    rows = []
    for budget, row in best.items():
        loss.load_state_dict(row.pop("state"))
        rows.append({"rule": rule, "seed": seed, "budget": budget} | row | judged(loss, program, test))
    return rows


@torch.no_grad()
def judged(loss: Loss, program: VQVAE, x: Tensor) -> dict[str, float]:
    """Exact -log p(x), the rule's own bound of it, and the perplexity of the codes, averaged over the positions."""
    program.eval()
    own = float(loss(x))
    q = program.posterior(program.encoder(x), program.codebook.codes).mean.mean(0)  # (N, K)
    program.train()
    return {"exact": -float(log_p(program, x).mean()), "own": own, "perplexity": float(perplexity(q).mean())}


def perplexity(q: Tensor) -> Tensor:
    return torch.special.entr(q).sum(-1).exp()


@torch.no_grad()
def log_p(program: VQVAE, x: Tensor, rows: int = 4096) -> Tensor:
    """Exact log p(x) of binary data (B, D) under the uniform prior over all K^N tuples of codes: (B,)."""
    codes = program.codebook.codes
    N = GRID[0] * GRID[1]
    tuples = torch.cartesian_prod(*[torch.arange(len(codes))] * N)  # (K^N, N)
    found = torch.full((len(x),), -torch.inf)
    for chosen in tuples.split(rows):
        logits = program.decoder(codes[chosen])
        log_p_x = torch.addmm(-softplus(logits).sum(-1), x, logits.T)  # (B, rows)
        found = torch.logaddexp(found, log_p_x.logsumexp(-1))
    return found - torch.tensor(float(len(tuples))).log()


def table(rows: list[dict[str, Any]]) -> str:
    """A line for each rule, best first by the exact figure at equal steps; +- is the standard error over seeds."""
    lines = [
        f"{'':18} {'ms':>5}   {'-log p(x)':>15} {'own bound':>9} {'perpl.':>6}   {'-log p(x)':>15} {'own bound':>9} "
        f"{'perpl.':>6} {'steps':>6}"
    ]
    order = sorted({row["rule"] for row in rows}, key=lambda rule: mean(figures(rows, rule, "steps", "exact")))
    for rule in order:
        ms = [1e3 * row["seconds"] / row["taken"] for row in rows if row["rule"] == rule]
        parts = [f"{rule:18} {mean(ms):5.1f}"]
        for budget in ("steps", "seconds"):
            exact, own, p, taken = (figures(rows, rule, budget, n) for n in ("exact", "own", "perplexity", "taken"))
            error = stdev(exact) / len(exact) ** 0.5 if len(exact) > 1 else float("nan")
            parts.append(f"  {mean(exact):8.2f} +-{error:5.2f} {mean(own):9.2f} {mean(p):6.1f}")
        lines.append(" ".join([*parts, f"{mean(taken):6.0f}"]))
    return "\n".join(lines)


def figures(rows: list[dict[str, Any]], rule: str, budget: str, name: str) -> list[float]:
    return [row[name] for row in rows if row["rule"] == rule and row["budget"] == budget]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", help="folder of static binarized MNIST; without it, digits")
    parser.add_argument("--rules", default=",".join(RULES), help="comma-separated names [all]")
    parser.add_argument("--seeds", default="0,1,2,3,4", help="comma-separated numbers [%(default)s]")
    parser.add_argument("--steps", type=int, default=3000, help="one budget [%(default)s]")
    parser.add_argument("--seconds", type=float, default=20.0, help="the other, of one core in training [%(default)s]")
    parser.add_argument("--tested", type=int, default=1000, help="test images, half as many to validate [%(default)s]")
    parser.add_argument("--path", default="runs/vq_estimators.jsonl")
    main(**vars(parser.parse_args()))
