"""Where stderr is a file every command leaves whole lines in it: no carriage returns, no pieces of a bar."""

import pytest
import torch

from pplvm.cli import main
from pplvm.distributed import progress as bars

SMALL = ("--set=hidden_sizes=4", "--set=latent_size=2", "--compile=off")
COMMANDS = {
    "fit": ("fit", *SMALL, "--steps=20", "--log-every=1", "--validate-every=5", "--output=run"),
    "evaluate": ("evaluate", "run", "--limit=60", "--ks=1,2", "--annealed=2", "--chains=2", "--annealing-steps=2"),
    "sample": ("sample", "run", "--count=4"),
    "compare": (
        "compare", "--set=latent_sizes=2,", "--estimators=rloo,score-function", "--steps=3", "--replicates=4",
        "--minibatches=1", "--sweep=K=1,2", "--sweep-replicates=3", "--compile=off", "--output=compared",
    ),
    "verify": ("verify", "rloo", "--draws=60"),
    "check": ("check", "vae"),
}  # fmt: skip


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What each command writes to a file when every step is worth a line, by command."""
    folder, found = tmp_path_factory.mktemp("logs"), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(bars, "SECONDS", 0.0)
        patch.setattr(bars, "GROWTH", 0.0)
        torch.set_default_dtype(torch.float32)
        try:
            for name, words in COMMANDS.items():
                with open(folder / name, "w", newline="") as log, pytest.MonkeyPatch.context() as redirected:
                    redirected.setattr("sys.stderr", log)
                    assert main(list(words)) == 0, (folder / name).read_text()
                found[name] = (folder / name).read_bytes().decode()
        finally:
            torch.set_default_dtype(torch.float64)
    return found


@pytest.mark.parametrize("command", COMMANDS)
def test_no_trace_of_a_bar(told, command):
    text = told[command]
    assert not {"\r", "|", "█", "\x1b"} & set(text) and "it/s" not in text
    assert text == "" or text.endswith("\n")
    assert not any(line == "" for line in text.splitlines())


def test_but_lines_that_tell_how_far_it_is(told):
    assert "5 of 20 steps, bound -" in told["fit"] and ", valid -" in told["fit"]
    assert "replicates: 4 of 4" in told["compare"] and "training: 3 of 3" in told["compare"]
    assert "log p(x), k = 2: 50 of 60 data" in told["evaluate"] and "annealing: 2 of 2 data" in told["evaluate"]


def test_and_sentences(told):
    assert "done; 20 steps; run directory run\n" in told["fit"]
