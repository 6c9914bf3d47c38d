"""Where what a user has trusted is kept, and for how long; what is not trusted stands in tests/faults."""

import json
import os
import signal
import sys
import types
from pathlib import Path

import pytest

from pplvm.commands.runs import trust

CONFIG = {"program": "mine:Story", "set": ["width=3"], "steps": 4}


@pytest.fixture(autouse=True)
def a_users_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PPLVM_STATE_HOME", str(tmp_path / "state"))
    Path("mine.py").write_text("raise RuntimeError('nothing is imported to decide whether it may be')")
    Path("run").mkdir()
    yield tmp_path
    assert "mine" not in sys.modules


def test_the_folder_is_the_one_of_xdg(monkeypatch, tmp_path):
    assert trust._folder() == tmp_path / "state/trusted"
    monkeypatch.delenv("PPLVM_STATE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", "relative")  # which the standard tells to ignore
    assert trust._folder() == tmp_path / ".local/state/pplvm/trusted"
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    assert trust._folder() == tmp_path / "xdg/pplvm/trusted"


def test_what_is_remembered_is_known_again_and_nothing_else():
    assert not trust.remembered(Path("run"), "a", CONFIG)
    trust.remember(Path("run"), "a", CONFIG)
    assert trust.remembered(Path("run"), "a", CONFIG) and trust.remembered(Path("./run/../run"), "a", CONFIG)
    assert trust.remembered(Path("run"), "a", CONFIG | {"steps": 9})  # which names no code
    for run, changes in (("b", {}), (None, {}), ("a", {"set": []}), ("a", {"program": "mine:Other"})):
        assert not trust.remembered(Path("run"), run, CONFIG | changes)
    Path("mine.py").rename("moved.py")
    assert not trust.remembered(Path("run"), "a", CONFIG)


def test_a_pipe_in_place_of_what_is_remembered_is_not_waited_for(tmp_path):
    trust.remember(Path("run"), "a", CONFIG)
    (entry,) = (tmp_path / "state/trusted").iterdir()
    entry.unlink()
    os.mkfifo(entry, mode=0o600)
    before = signal.signal(signal.SIGALRM, lambda *signalled: pytest.fail("waits for someone to write to it"))
    signal.alarm(10)
    try:
        assert not trust.remembered(Path("run"), "a", CONFIG)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_code_that_lies_in_no_file_is_not_remembered(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "typed", types.ModuleType("typed"))  # has no spec, as __main__ in a notebook
    trust.remember(Path("run"), "a", {"program": "typed:Story"})
    trust.remember(Path("run"), "a", {"program": "absent:Story"})
    assert not list((tmp_path / "state").rglob("*.json"))


def test_runs_that_are_gone_are_forgotten(tmp_path):
    trust.remember(Path("run"), "a", CONFIG)
    Path("run").rename("next")
    trust.remember(Path("next"), "a", CONFIG)
    (entry,) = (tmp_path / "state/trusted").iterdir()
    assert json.loads(entry.read_text())["directory"].endswith("/next")
