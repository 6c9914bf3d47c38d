"""kill -9 while a checkpoint is written: the latest is always whole, and never older than what was reported."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def killed(how, folder):
    """What a way of killing found of each saver."""
    script = Path(__file__).with_name("killed.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, script, how, folder],
        capture_output=True, text=True, timeout=300, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def at_random(tmp_path_factory):
    return killed("random", tmp_path_factory.mktemp("killed"))


@pytest.fixture(scope="module")
def everywhere(tmp_path_factory):
    return killed("everywhere", tmp_path_factory.mktemp("killed"))


@pytest.mark.slow
def test_a_hundred_kills_never_leave_an_unreadable_or_outdated_latest(at_random):
    found = at_random["atomic"]
    assert found["failures"] == []
    assert found["steps"] >= 100 and found["cut"] >= 20, "too few kills fell into a save"


@pytest.mark.slow
def test_the_test_sees_a_saver_that_writes_in_place(at_random):
    assert len(at_random["in-place"]["failures"]) == 1  # after which it gives up


def test_a_kill_before_any_operation_on_the_disk_is_survived(everywhere):
    found = everywhere["atomic"]
    assert found["failures"] == []
    assert 30 < found["operations"] < 200


def test_the_test_sees_that_in_place_does_not_survive_them(everywhere):
    assert len(everywhere["in-place"]["failures"]) >= 3
