"""Jobs that `test_data_parallel.py` lets fail: `torchrun ... failing.py FILE HOW`; FILE tells when rank 1 did."""

import os
import signal
import sys
import time
from pathlib import Path

import torch
from torch import nn

from pplvm.distributed.data_parallel import parallel
from pplvm.distributed.ranks import join, rank

FAIL = {
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "hangs": lambda: time.sleep(600),
}


def main(told: str, how: str) -> None:
    if how == "fit":
        sys.exit(fit_killed(told))
    with join("cpu", timeout_seconds=3 if how == "hangs" else 300):
        x = torch.ones(2, 4)
        together = parallel(nn.Sequential(nn.Linear(4, 1), Mean()), x)
        for step in range(5):
            if (rank(), step) == (1, 3):
                Path(told).write_text(str(time.time()))
                FAIL[how]()
            together(x).backward()


def fit_killed(told: str) -> int:
    """The command, of which the second process is killed in its third step."""
    from pplvm.cli import main as command
    from pplvm.training.run import Run

    advance = Run.advance

    def advance_or_die(run: Run) -> object:
        if (rank(), run.step) == (1, 2):
            Path(told).write_text(str(time.time()))
            FAIL["killed"]()
        return advance(run)

    Run.advance = advance_or_die
    return command(["fit", "--steps=5", "--compile=off", f"--output={Path(told).parent / 'run'}"])


class Mean(nn.Module):
    def forward(self, x):
        return x.mean()


if __name__ == "__main__":
    main(*sys.argv[1:])
