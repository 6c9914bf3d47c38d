"""Ctrl-C and SIGTERM of real processes, from their first moment."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import lazy_loader
import pytest

from pplvm.commands.interruption import Interruption

ROOT = Path(__file__).parents[2]
MODULE = [sys.executable, "-m", "pplvm"]
SCRIPT = [sys.executable, "-c", "import sys; from pplvm.cli import main; sys.exit(main())"]
"""What an installer makes of the entry point."""

OURS = "import sys, pplvm.cli; sys.stdout.write('here'); sys.stdout.flush()"


def started(command, folder):
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a suite in the background ignores it
    )  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    "seconds", [0.0, 0.5, *(pytest.param(seconds, marks=pytest.mark.slow) for seconds in (0.05, 0.2, 1, 2))]
)
@pytest.mark.parametrize("command", [MODULE, SCRIPT], ids=["module", "script"])
def test_a_signal_while_a_command_is_imported_ends_it_in_a_line(tmp_path, seconds, command):
    for number, code, word in ((signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")):
        with started([*command, "fit", "--output=run", "--steps=1000000"], tmp_path) as process:
            _wait_for_its_handler(process)
            time.sleep(seconds)
            process.send_signal(number)
            said = process.communicate(timeout=60)[1]
        assert process.returncode == code and "Traceback" not in said, said
        if not (tmp_path / "run").exists():  # else the machine is so fast that it trains by now
            (line,) = said.splitlines()
            assert f": {word} before it began: nothing was written" in line or "before the first step" in line


def _wait_for_its_handler(process):
    """Until it catches SIGTERM, which Python by itself never does."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        status = Path(f"/proc/{process.pid}/status").read_text()
        caught = int(next(line for line in status.splitlines() if line.startswith("SigCgt")).split()[1], 16)
        if caught >> (signal.SIGTERM - 1) & 1:
            return
    raise AssertionError("it never handles signals")


def test_little_is_imported_before_signals_are_handled(tmp_path):
    """Of what takes milliseconds nothing: until then Python ends with a traceback."""
    code = f"import sys; before = set(sys.modules); {OURS}; print(*sorted(set(sys.modules) - before))"
    path = {"PYTHONPATH": str(Path(lazy_loader.__file__).parents[1])}  # which -S leaves out
    found = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, cwd=ROOT, env=os.environ | path, check=True
    )
    assert not {"typing", "re", "argparse", "torch"} & set(found.stdout.split()), found.stdout


SLOW = """
import time, torch

class Slow(torch.nn.Module):
    def __init__(self):
        super().__init__()
        print("working", flush=True)
        {body}
"""


RAISED = "time.sleep(60)"
SWALLOWED = """
        try:
            time.sleep(60)
        except BaseException:
            raise RecursionError("as a library that is imported makes of it")
        """.strip()


@pytest.mark.parametrize(
    "body, number, code, word",
    [
        pytest.param(RAISED, signal.SIGINT, 130, "interrupted", id="raised-int"),
        pytest.param(RAISED, signal.SIGTERM, 143, "terminated", id="raised-term", marks=pytest.mark.slow),
        pytest.param(SWALLOWED, signal.SIGINT, 130, "interrupted", id="swallowed-int", marks=pytest.mark.slow),
        pytest.param(SWALLOWED, signal.SIGTERM, 143, "terminated", id="swallowed-term", marks=pytest.mark.slow),
    ],
)
def test_a_signal_while_a_command_works(tmp_path, number, code, word, body):
    (tmp_path / "mine.py").write_text(SLOW.format(body=body))
    with started([*MODULE, "check", "mine:Slow"], tmp_path) as process:
        assert process.stdout.readline() == "working\n"
        time.sleep(0.2)
        process.send_signal(number)
        said = process.communicate(timeout=60)[1]
    assert process.returncode == code
    assert said.splitlines() == [f"pplvm check: {word} before it was done"]


def test_a_second_signal_ends_what_does_not_stop(tmp_path):
    body = """
        while True:
            try:
                time.sleep(60)
            except KeyboardInterrupt:
                print("again", flush=True)
    """.strip()
    (tmp_path / "mine.py").write_text(SLOW.format(body=body))
    with started([*MODULE, "check", "mine:Slow"], tmp_path) as process:
        assert process.stdout.readline() == "working\n"
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "again\n"
        process.send_signal(signal.SIGINT)
        assert "pplvm check: interrupted before it was done" in process.communicate(timeout=60)[1]
    assert process.returncode == 130


SLOW_TO_BUILD = """
import time
import pplvm

built = []

def rule(num_particles=2):
    built.append(1)
    if len(built) == 3:  # tried out, of the first program, of the second one
        time.sleep(60)
    return pplvm.LeaveOneOut(pplvm.elbo, num_particles)
"""


@pytest.mark.parametrize(
    "number, code", [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_verify_says_how_far_it_came(tmp_path, number, code):
    (tmp_path / "mine.py").write_text(SLOW_TO_BUILD)
    with started([*MODULE, "verify", "mine:rule", "--draws=60"], tmp_path) as process:
        assert process.stdout.readline() == "one layer of 2 Bernoullis: unbiased\n"
        time.sleep(0.5)
        process.send_signal(number)
        out, said = process.communicate(timeout=60)
    assert process.returncode == code and said == ""
    assert out.splitlines()[-1] == "mine:rule: interrupted after 1 of 5 programs: no verdict"


def test_signals_are_as_before_where_a_notebook_calls_main(capsys):
    from pplvm.cli import main

    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    assert main(["list", "data"]) == 0
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_signal_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    interruption = Interruption("pplvm")
    try:
        interruption.take()
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        interruption.give_back()
        signal.signal(signal.SIGINT, before)


def test_one_of_several_processes_leaves_sigterm_to_torchrun(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    before = signal.getsignal(signal.SIGTERM)
    interruption = Interruption("pplvm")
    try:
        interruption.take()
        assert signal.getsignal(signal.SIGTERM) != before
        interruption.begin()
        assert signal.getsignal(signal.SIGTERM) == before
    finally:
        interruption.give_back()
