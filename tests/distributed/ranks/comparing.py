"""What `tests/estimators/test_distributed.py` has two ranks do: `torchrun ... comparing.py`; each writes RANK.json."""

import contextlib
import io
import json
import os
import signal
import weakref
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import torch
from torch import distributed

from pplvm.cli import main
from pplvm.commands.comparison import comparison_files
from pplvm.commands.output import error_output
from pplvm.distributed.ranks import join, rank
from pplvm.objectives.score_function import LeaveOneOut
from pplvm.programs.sigmoid_belief import SigmoidBeliefNet

QUICK = ["--batch-size=10", "--steps=3", "--replicates=13", "--kept=9", "--sweep-replicates=5", "--sweep=K=1,3"]
NET = [*QUICK, "--set=latent_sizes=(3,)", "--minibatches=3", "--estimators=rloo,nvil,vimco,exact,score-function"]
VAE = [*QUICK, "--program=vae", "--set=hidden_sizes=(5,)", "--minibatches=2", "--estimators=pathwise,iwae", "--sweep="]
ONE = [*QUICK, "--set=latent_sizes=(3,)", "--minibatches=1", "--sweep="]
HERE = "tests.distributed.ranks.comparing"


class AtItsNinth(LeaveOneOut):
    """Something happens to the second rank in its fifth replicate; two draws were for the costs, two to try it out."""

    calls = 0

    def estimate(self, *args, **kwargs):
        self.calls += 1
        found = super().estimate(*args, **kwargs)
        return self.happens(found) if rank() == 1 and self.calls == 9 else found


class Broken(AtItsNinth):
    def happens(self, found):
        return replace(found, surrogate=found.surrogate * torch.nan)


class Interrupted(AtItsNinth):
    def happens(self, found):
        signal.raise_signal(signal.SIGINT)
        return found


class Apart(SigmoidBeliefNet):
    def __init__(self, data_size: int) -> None:
        super().__init__(data_size, (3,))
        with torch.no_grad():
            self.prior_logits += rank()


class OnlyHere(SigmoidBeliefNet):
    def __init__(self, data_size: int) -> None:
        if rank() == 1:
            raise ValueError("no such thing on this machine")
        super().__init__(data_size, (3,))


def compare(*words: str) -> Callable[[], int]:
    return lambda: main(["compare", *words])


def said(*words: str | None) -> int:
    """Each rank complains by itself."""
    mine = words[rank()]
    if mine is not None:
        error_output.print_error(mine)
    return 0


CASES = {
    "net": compare(*NET, "--output=net"),
    "vae": compare(*VAE, "--output=vae"),
    "interrupted": compare(*ONE, f"--estimators={HERE}:Interrupted", "--output=interrupted"),
    "broken": compare(*ONE, f"--estimators={HERE}:Broken", "--output=broken"),
    "left out": compare(*ONE, f"--estimators=nvil,{HERE}:Broken,rloo", "--output=left-out"),
    "as without it": compare(*ONE, "--estimators=nvil,rloo", "--output=without"),
    "apart": compare(*QUICK, f"--program={HERE}:Apart", "--estimators=rloo", "--output=apart"),
    "only here": compare(*QUICK, f"--program={HERE}:OnlyHere", "--estimators=rloo", "--output=only"),
    "there already": compare(*ONE, "--output=net"),
    "misspelt": compare("--estimators=rlo"),
    "no such option": compare("--nothing"),
    "both say the same": lambda: said("help", "help"),
    "each says its own": lambda: said("help", "no"),
    "the second alone": lambda: said(None, "no"),
}


def heard(case: Callable[[], int]) -> dict[str, object]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = case()
        except SystemExit as exit:
            code = exit.code
    return {"code": code, "out": out.getvalue(), "err": err.getvalue()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    error_output.PATIENCE = timedelta(seconds=2)
    comparison_files.save_figures = lambda *section: []  # which take the longest
    found = {}
    with join("cpu", timeout_seconds=60):  # one group for all of the commands
        for number, (name, case) in enumerate(CASES.items()):
            os.environ["TORCHELASTIC_RESTART_COUNT"] = str(number)  # each is a job by itself
            found[name] = heard(case)
        group = weakref.ref(distributed.group.WORLD)
    found["group is gone"] = group() is None
    Path(f"{os.environ['RANK']}.json").write_text(json.dumps(found))
