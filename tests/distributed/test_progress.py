"""Bars that fit the terminal, and lines that are few: what a user sees while work goes on."""

import io
import os
import pty
import subprocess
import sys
import types
from pathlib import Path

import pytest
from tqdm import tqdm

from pplvm.distributed import progress as bars
from pplvm.distributed.progress import bar, write

ROOT = Path(__file__).parent.parent.parent


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def stderr(monkeypatch):
    def of(kind):
        monkeypatch.setattr(sys, "stderr", kind())
        return sys.stderr

    return of


@pytest.fixture
def clock(monkeypatch):
    """A clock that is set by hand."""
    now = [0.0]
    monkeypatch.setattr("pplvm.distributed.progress.time", types.SimpleNamespace(monotonic=lambda: now[0]))
    return now


def drawn(shown):
    return [part for part in shown.getvalue().split("\r") if "|" in part]


FIGURES = {"bound": -123.45, "valid": -124.12, "rate": 21.5, "distortion": 101.95}


@pytest.mark.parametrize("columns, figures", [(30, 0), (60, 2), (80, 2), (120, 4)])
def test_a_bar_fits_its_terminal_and_leaves_room_for_itself(stderr, monkeypatch, columns, figures):
    monkeypatch.setenv("COLUMNS", str(columns))
    shown = stderr(Terminal)
    with bar("", 20_000, 0, unit="steps", shown=True) as work:
        work.at(10_000, FIGURES)
        work._tqdm.refresh()
        last = drawn(shown)[-1]
        assert len(last) < columns and last.startswith("10000/20000 |")
        assert columns == 80 or last.index("|", 13) - last.index("|") > 7, last  # millions of steps a second are wide
        assert [name for name in FIGURES if f"{name} {FIGURES[name]:.2f}" in last] == list(FIGURES)[:figures]


def test_nothing_is_left_on_a_terminal(stderr, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    shown = stderr(Terminal)
    with bar("replicates", 3, shown=True) as work:
        work.at(2)
        write("a sentence")
    assert drawn(shown)[0].startswith("replicates: 0/3 |") and "a sentence\n" in shown.getvalue()
    assert shown.getvalue().split("\r")[-1].strip() == "" and shown.getvalue().split("\r")[-2].strip() == ""


@pytest.mark.skipif(sys.platform != "linux", reason="a pseudo-terminal of Linux")
@pytest.mark.parametrize("columns", [60, *(pytest.param(wider, marks=pytest.mark.slow) for wider in (80, 120))])
def test_fit_in_a_terminal(tmp_path, columns):
    environment = os.environ | {"COLUMNS": str(columns), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    words = ["--steps=150", "--log-every=1", "--validate-every=10", "--set=hidden_sizes=8", "--compile=off"]
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "pplvm", "fit", *words, "--output=run"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=slave) as process:
        os.close(slave)
        seen = b"".join(iter(lambda: _read(master), b""))
    os.close(master)
    assert process.returncode == 0, seen
    pieces = [piece for line in seen.decode().split("\r\n") for piece in line.split("\r")]
    live = [piece for piece in pieces if "/150 |" in piece]
    assert live and max(map(len, live)) < columns
    assert any("bound -" in piece and "valid -" in piece for piece in live), live
    assert seen.decode().count("done; 150 steps") == 1


def _read(descriptor):
    try:
        return os.read(descriptor, 65536)
    except OSError:  # Linux's word for the end
        return b""


def test_a_file_gets_few_whole_lines(stderr, clock):
    shown = stderr(io.StringIO)
    with bar("training", 86_400, unit="steps", shown=True) as work:
        for second in range(86_401):
            clock[0] = float(second)
            work.at(second, {"bound": -1.0} if second % 50 == 0 else None)
    lines = shown.getvalue().splitlines()
    assert lines[0] == "training: 10 of 86,400 steps, bound -1.00"
    assert 60 < len(lines) < 250, "a day"
    assert "\r" not in shown.getvalue() and "|" not in shown.getvalue()


def test_work_that_is_short_leaves_a_file_empty(stderr, clock):
    shown = stderr(io.StringIO)
    with bar("replicates", 3, shown=True) as work:
        for i in range(3):
            clock[0] += 3
            work.at(i + 1)
    assert shown.getvalue() == ""


@pytest.mark.parametrize("asked, is_first", [(None, True), (False, True), (True, False)])
def test_a_library_is_silent_in_a_file_and_so_is_every_process_but_the_first(
    stderr, clock, monkeypatch, asked, is_first
):
    monkeypatch.setattr(bars, "is_first", lambda: is_first)
    shown = stderr(io.StringIO)
    with bar("replicates", 3, shown=asked) as work:
        clock[0] = 1e6
        work.at(2)
        work.next("particles", 4)
    assert shown.getvalue() == ""


def test_one_part_of_the_work_after_the_other(stderr, clock):
    shown = stderr(io.StringIO)
    with bar("log p(x)", 300, unit="data", shown=True) as work:
        clock[0] = 20
        work.at(100)
        work.next("rate and distortion", 200)
        clock[0] = 40
        work.at(50)
    assert shown.getvalue().splitlines() == ["log p(x): 100 of 300 data", "rate and distortion: 50 of 200 data"]


def test_in_a_notebook_the_bar_is_one_of_notebooks(stderr, monkeypatch):
    """Whose standard error is no terminal."""
    made = []

    class OfNotebooks(tqdm):
        def __init__(self, *args, **options):
            made.append(options)
            super().__init__(*args, **options)

    shell = types.SimpleNamespace(config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "tqdm.auto", types.SimpleNamespace(tqdm=OfNotebooks))
    stderr(io.StringIO)
    with bar("replicates", 3) as work:
        work.at(1)
    assert len(made) == 1 and made[0]["total"] == 3


def test_ipython_in_a_terminal_is_no_notebook(stderr, monkeypatch):
    shell = types.SimpleNamespace(config={"TerminalIPythonApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    shown = stderr(io.StringIO)
    with bar("replicates", 3) as work:
        work.at(1)
    assert shown.getvalue() == ""
