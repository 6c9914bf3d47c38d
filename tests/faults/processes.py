"""`pplvm fit` as a process of its own, watched by what it writes."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
QUICK = ("--data=rows.npy", "--output=run", "--batch-size=12", "--log-every=1", "--compile=off")
SMALL = (*QUICK, "--set=hidden_sizes=8", "--set=latent_size=2")
"""A quick run; data from a file spare it the import of scikit-learn, and a traced step would never look for a file."""


@contextmanager
def started(*words):
    """The process, killed if it outlives the test; a suite in the background would ignore SIGINT."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pplvm", "fit", *words], stderr=subprocess.PIPE, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path[1:]])},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def ended(process):
    """Its exit code and all that it said."""
    said = process.communicate(timeout=60)[1]
    return process.returncode, said


def wait_until(is_so, process):
    deadline = time.monotonic() + 60
    while not is_so():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.005)


def steps_recorded(run="run"):
    path = Path(run, "metrics.jsonl")
    return path.read_bytes().count(b"\n") if path.exists() else 0
