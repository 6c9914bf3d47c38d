"""What `tests/commands/test_distributed.py` has two ranks do: train with the command line, stop, resume, evaluate."""

import os
import signal
import sys
from pathlib import Path

from pplvm.cli import main
from pplvm.distributed.ranks import join
from pplvm.plots import curves
from pplvm.training import checkpoints
from pplvm.training.run import Run

WORDS = ["--program=sigmoid-belief-net", "--set=latent_sizes=(5,)", "--objective=nvil", "--binarize=dynamic"]
WORDS += ["--batch-size=50", "--validate-every=10", "--save-every=10", "--log-every=5", "--average=0.9"]
WORDS += ["--compile=graph"]
STILL = ["--learning-rate=1e-30", "--steps=4", "--validate-every=2", "--binarize=static"]
"""Weights that stay what they are, though each process trains with noise of its own."""
LABELLED = ["fit", "--program=tests.seams.programs:SemiSupervised", "--condition=labels", "--known-labels=100"]
LABELLED += ["--objective=rloo", "--batch-size=40", "--compile=off", "--steps=3"]
"""Of a rank's 20 labels one or two are known."""
CODES = ["fit", "--program=vq-vae", "--set=codebook=moving-average", "--set=num_codes=8", "--set=hidden_sizes=(20,)"]
CODES += ["--batch-size=400", "--log-every=3", "--compile=off", "--steps=7"]
"""Without noise: the nearest code is no draw."""
JUDGED = ["--limit=21", "--ks=1,10", "--annealed=1", "--chains=4", "--annealing-steps=10"]


def fit(*words: str) -> int:
    return main(["fit", *WORDS, "--steps=20", *words])


def interrupted(step: int) -> None:
    """SIGTERM to the process whose turn it is, in the middle of a step; only the second one gets it."""
    advance = Run.advance

    def advance_and_stop(run: Run) -> object:
        from pplvm.distributed.ranks import rank

        if run.step + 1 == step and rank() == 1:
            signal.raise_signal(signal.SIGTERM)
        return advance(run)

    Run.advance = advance_and_stop


def all_of_it() -> list[int]:
    codes = [fit("--output=whole"), main(["evaluate", "whole", *JUDGED, "--output=judged"])]
    kept = Run.advance
    interrupted(13)
    codes.append(fit("--output=stopped"))
    Run.advance = kept
    codes.append(main(["fit", "--resume=stopped"]))
    codes.append(fit("--output=odd", "--batch-size=51"))
    codes.append(fit(*STILL, "--output=still"))
    codes.append(main([*LABELLED, "--output=labelled"]))
    codes.append(main([*LABELLED, "--output=second", "--initial=labelled", "--train=classifier"]))
    codes.append(main([*CODES, "--output=codes"]))
    codes.append(main([*CODES, "--set=restart_below=0.95", "--output=restarts"]))
    for number, failing in enumerate((lambda: fit("--output=whole"), on_a_full_disk), start=1):
        os.environ["TORCHELASTIC_RESTART_COUNT"] = str(number)  # each complains as a job by itself
        codes.append(failing())
    return codes


def on_a_full_disk() -> int:
    """Only the first process writes, at step 10."""

    def full(path: Path, data: bytes) -> None:
        if path.name == "model.safetensors":
            raise OSError(28, "No space left here")
        kept(path, data)

    kept, checkpoints.write_and_sync = checkpoints.write_and_sync, full
    try:
        return fit("--output=full")
    finally:
        checkpoints.write_and_sync = kept


if __name__ == "__main__":
    curves.save_curves = lambda records, path: Path(path).touch()  # which takes most of a short run's time
    with join("cpu", timeout_seconds=60):  # one group for all of the commands
        sys.stderr.write(f"codes {all_of_it()}\n")  # at once, or the lines of the two mix
