"""The estimators: variance, bias and time of ours beside those of storchastic, Pyro and NumPyro.

    python -m benchmarks.peers.estimators [--rounds 21] [--json FILE]

A library that is not installed is left out: pip install "pplvm[peers]". Variances are traces of the covariance of
the guide's gradient per datum, plus or minus a standard error; times are interleaved as in `benchmarks.ratios`, on
one thread, since thread pools of three libraries on a busy machine measure the machine.
"""

import importlib
import statistics
import sys
from collections.abc import Callable
from functools import partial

import pyro

from benchmarks.contestants import Contestant
from benchmarks.peers.measures import draws, threshold, trace_of_covariance, worst_z
from benchmarks.peers.problems import PROBLEMS, exact_gradient, toy_variances
from benchmarks.peers.results import write
from benchmarks.peers.tables import options, wait
from benchmarks.ratios import interleaved, ratio

LIBRARIES = ("pplvm", "torch", "storchastic", "pyro", "numpyro")
METHODS = ("score function", "learned baseline", "leave-one-out", "ARM", "DisARM", "REBAR", "RELAX", "expectation")
TOY, SMALL, LARGE = PROBLEMS
HEAD = (
    "| method | library | toy: variance | closed form | net 6-4: variance | worst z, guide | model | ms | ours over it "
    "| net 784-200: variance | ms | ours over it |\n|---|---|---|---|---|---|---|---|---|---|---|---|"
)
INNER = 10
"""Steps timed at a time."""

Key = tuple[str, str]


def main(replicates: int = 100) -> None:
    """Print the table, one row a method and library."""
    chosen = options(rounds=21, threads=1, devices=("cpu",))
    built = {name: entries(name) for name in PROBLEMS}
    seconds = {name: timed(built[name], chosen.rounds) for name in (SMALL, LARGE)}
    print(HEAD)
    rows = []
    for key in sorted(built[SMALL], key=lambda key: (METHODS.index(key[0]), LIBRARIES.index(key[1]))):
        build = {name: found.get(key) for name, found in built.items()}
        cells = [
            *(toy_cells(key[0], build[TOY](), replicates) if build[TOY] else [""] * 2),
            *small_net_cells(build[SMALL](), replicates),
            *time_cells(key, seconds[SMALL]),
            *([large_net_cell(build[LARGE]()), *time_cells(key, seconds[LARGE])] if build[LARGE] else [""] * 3),
        ]
        rows.append([*key, *cells])
        print("|", " | ".join(rows[-1]), "|", flush=True)
    columns = [name.strip() for name in HEAD.splitlines()[0].strip("|").split("|")]
    write(chosen, {"table": "estimators", "columns": columns, "rows": rows})
    pyro.clear_param_store()


def entries(problem: str) -> dict[Key, Callable[[], Contestant]]:
    """What builds each contestant, by method and library, of the libraries that are installed."""
    found = {}
    for library in LIBRARIES:
        try:
            module = importlib.import_module(f"benchmarks.peers.with_{library}")
        except ModuleNotFoundError as error:
            print(f"{library} is left out: {error}", file=sys.stderr)
            continue
        found |= {(method, library): build for method, build in module.contestants(PROBLEMS[problem]).items()}
    return found


def toy_cells(method: str, contestant: Contestant, replicates: int) -> list[str]:
    """The variance of one draw, and in closed form."""
    exact = toy_variances(PROBLEMS[TOY].particles).get(method)
    copies = len(PROBLEMS[TOY].x)
    gradients = draws(contestant, replicates) * copies  # each of its entries that of one datum
    return [told(*trace_of_covariance(gradients.reshape(-1, 1))), "" if exact is None else f"{exact:.3g}"]


def small_net_cells(contestant: Contestant, replicates: int) -> list[str]:
    """The variance of one draw of K particles, and the distance of guide's and model's mean from the exact one."""
    problem = PROBLEMS[SMALL]
    exact, guide = exact_gradient(problem.build(), problem.x), problem.guide_size
    gradients = draws(contestant, replicates)
    variance = [len(problem.x) * part for part in trace_of_covariance(gradients[:, -guide:])]
    parts = slice(-guide, None), slice(-guide)
    zs = [worst_z(gradients[:, part], exact[part]) for part in parts]
    limit = threshold(len(exact), replicates)
    return [told(*variance), *(f"{z:.1f}" + " biased" * (z > limit) for z in zs)]


def large_net_cell(contestant: Contestant) -> str:
    """Variance at the initial parameters, after baselines have settled."""
    contestant.settle()
    return told(*trace_of_covariance(draws(contestant, 30)[:, -PROBLEMS[LARGE].guide_size :]))


def timed(built: dict[Key, Callable[[], Contestant]], rounds: int) -> dict[Key, list[float]]:
    steps = {key: build().step for key, build in built.items()}
    return interleaved(steps, rounds, INNER, partial(wait, "cpu"))


def time_cells(key: Key, seconds: dict[Key, list[float]]) -> list[str]:
    """Milliseconds a step, and our time over this one's: median [quartiles] over rounds."""
    milliseconds = f"{statistics.median(seconds[key]) / INNER * 1e3:.1f}"
    ours = key[0], "pplvm"
    if key == ours or ours not in seconds:
        return [milliseconds, ""]
    low, median, high = ratio(seconds[ours], seconds[key])
    return [milliseconds, f"{median:.2f} [{low:.2f}, {high:.2f}]"]


def told(value: float, error: float) -> str:
    return f"{value:.3g} ± {error:.1g}"


if __name__ == "__main__":
    main()
