"""Fault 22: SIGINT and SIGTERM at any time, to a process and within one."""

import os
import pty
import select
import signal
import sys
import time
from pathlib import Path

import pytest

from pplvm.commands import fit as fitting
from pplvm.training.checkpoints import read_latest
from tests.faults.processes import QUICK, ROOT, SMALL, ended, started, steps_recorded, wait_until

LONG = ("--steps=100000", "--save-every=100000", "--validate-every=100000")


@pytest.mark.parametrize(
    "number, code",
    [
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow),
        (signal.SIGTERM, 143),
        pytest.param(signal.SIGHUP, 129, marks=pytest.mark.slow),
    ],
)
def test_22_a_signal_ends_the_step_and_saves(fit, refused, rows, number, code):
    with started(*SMALL, *LONG) as process:
        wait_until(lambda: steps_recorded() > 5, process)
        for words in ([], ["--overwrite"]):  # meanwhile nobody else writes there: fault 24
            assert "another process saves checkpoints in run/checkpoints: wait for its end" in during(fit, *words)
        process.send_signal(number)
        found, said = ended(process)
    assert found == code and "Traceback" not in said
    assert "stopped by a signal and saved: go on with pplvm fit --resume run" in said
    stopped = read_latest(Path("run"))
    assert stopped.step == steps_recorded() > 5
    assert f"has {stopped.step} steps already" in refused("--resume=run", f"--steps={stopped.step}")
    assert fit("--resume=run", f"--steps={stopped.step + 3}")[0] == 0
    assert read_latest(Path("run")).step == stopped.step + 3


def during(fit, *words):
    code, lines = fit(*SMALL, *words)
    assert code == 2 and len(lines) == 1, lines
    return lines[0]


def test_22_a_second_signal_kills_at_once(fit, rows):
    with started(*QUICK, *LONG, "--program=mine:Sleeps", "--save-every=1") as process:
        wait_until(lambda: steps_recorded() > 2, process)
        Path("slow").touch()
        wait_until(Path("asleep").exists, process)
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
        assert process.poll() is None, "the first one waits for the step"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == -signal.SIGINT
    Path("slow").unlink()
    saved = read_latest(Path("run")).step
    assert saved >= 2
    assert fit("--resume=run", "--trust=mine", f"--steps={saved + 1}")[0] == 0


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_22_a_signal_while_torch_is_imported(fit, rows):
    with started(*SMALL, *LONG) as process:
        wait_until(lambda: "libtorch_cpu" in Path(f"/proc/{process.pid}/maps").read_text(), process)
        process.send_signal(signal.SIGINT)
        code, said = ended(process)
    assert code in (130, -signal.SIGINT), said
    assert not Path("run").exists()


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_22_a_signal_before_the_first_step_writes_nothing(fit, refused, monkeypatch, number, code):
    signal_while_building(monkeypatch, number)
    assert "stopped by a signal before the first step: nothing was written" in refused(code=code)
    assert not Path("run").exists()


def test_22_nor_is_a_run_touched_that_was_to_be_replaced_or_resumed(fit, monkeypatch):
    assert fit()[0] == 0
    before = Path("run/manifest.json").read_bytes(), steps_recorded()
    signal_while_building(monkeypatch, signal.SIGINT)
    assert fit("--overwrite", "--seed=1")[0] == 130
    assert fit("--resume=run", "--steps=9")[0] == 130
    assert (Path("run/manifest.json").read_bytes(), steps_recorded()) == before


def test_22_under_nohup_a_run_goes_on(fit, monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        signal_while_building(monkeypatch, signal.SIGHUP)
        assert fit()[0] == 0
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert read_latest(Path("run")).step == 4


@pytest.mark.slow
def test_22_a_run_outlives_its_terminal_until_it_is_saved(fit, rows):
    """Whoever holds the other end of a terminal lets go: SIGHUP comes, and every word written from then on fails."""
    child, terminal = pty.fork()
    if child == 0:
        os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path[1:]])}
        os.execv(sys.executable, [sys.executable, "-m", "pplvm", "fit", *SMALL, *LONG])
    try:
        deadline = time.monotonic() + 60
        while steps_recorded() <= 5:
            assert time.monotonic() < deadline, "it takes too long"
            if select.select([terminal], [], [], 0.01)[0]:
                os.read(terminal, 4096)
    finally:
        os.close(terminal)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code == 129
    assert read_latest(Path("run")).step == steps_recorded() > 5


def signal_while_building(monkeypatch, number):
    build = fitting.build_plan

    def build_and_signal(*arguments):
        signal.raise_signal(number)
        return build(*arguments)

    monkeypatch.setattr(fitting, "build_plan", build_and_signal)
