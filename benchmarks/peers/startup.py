"""Wall time of fresh processes: the command line's answers that need no model, and the import beside Pyro's.

python -m benchmarks.peers.startup [--rounds 11] [--json FILE]
"""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from benchmarks.peers.agreement import Verdict
from benchmarks.peers.tables import Section, Target, run

__all__ = ["section", "sections"]

COMMANDS = {
    "import pyro": ("-c", "import pyro"),
    "import pplvm": ("-c", "import pplvm"),
    "a program and its loss of pplvm": ("-c", "from pplvm import Loss, Pathwise, VAE"),
    "import torch": ("-c", "import torch"),
    "python, idle": ("-c", "pass"),
    "pplvm --help": ("-m", "pplvm", "--help"),
    "pplvm --version": ("-m", "pplvm", "--version"),
    "pplvm list": ("-m", "pplvm", "list"),
}


@dataclass(frozen=True)
class Process:
    """A Python of its own, which must end well."""

    arguments: tuple[str, ...]

    def step(self) -> None:
        subprocess.run([sys.executable, *self.arguments], check=True, capture_output=True)


def sections(device: str) -> Iterator[Section]:
    answers = [Target(name, 0.2, None) for name in COMMANDS if name.startswith("pplvm")]
    yield section([Target("import pplvm", 1.05, "import pyro"), *answers])


def section(targets: Sequence[Target] = ()) -> Section:
    contestants = {name: partial(Process, arguments) for name, arguments in COMMANDS.items()}
    return Section("Start-up", contestants, runs, targets, inner=1, unit="process")


def runs(name: str, process: Process) -> Verdict:
    process.step()
    return Verdict(True, "runs")


if __name__ == "__main__":
    run("startup", sections, rounds=11)
