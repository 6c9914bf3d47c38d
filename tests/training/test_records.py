"""Metrics: valid JSON a line, a table of them, and nothing twice or torn after a kill."""

import csv
import errno
import json
import os
import resource
import sys

import pytest
import torch

from pplvm.training.records import Records, TensorBoard


def lines(directory):
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def rows(directory):
    with open(directory / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def run(directory, first, last, resume=None):
    """Steps `first` to `last`, two records at every third."""
    records = Records(directory, resume)
    for step in range(first, last + 1):
        records.write(step, {"bound": -100 / step, "ess": step})
        if step % 3 == 0:
            records.write(step, {"valid, bound": -101 / step})
    return records


def test_numbers_come_back_as_they_were(tmp_path):
    records = Records(tmp_path, None)
    records.write(1, {"a": 0.1, "b": 3, "c": torch.tensor(0.25), "d": float("nan"), "e": float("-inf"), "f": -0.0})
    assert lines(tmp_path) == [{"step": 1, "a": 0.1, "b": 3, "c": 0.25, "d": None, "e": None, "f": 0.0}]
    assert "NaN" not in (tmp_path / "metrics.jsonl").read_text()
    records.close()


def test_a_line_and_a_row_are_there_when_write_returns(tmp_path):
    records = Records(tmp_path, None)
    records.write(1, {"bound": -3.0})
    assert lines(tmp_path) == [{"step": 1, "bound": -3.0}]
    assert rows(tmp_path) == [{"step": "1", "bound": "-3.0"}]
    records.write(2, {"rate": 1.5})
    assert rows(tmp_path) == [{"step": "1", "bound": "-3.0", "rate": ""}, {"step": "2", "bound": "", "rate": "1.5"}]
    before = (tmp_path / "metrics.csv").stat().st_ino
    records.write(3, {"bound": 1, "rate": 2})
    assert (tmp_path / "metrics.csv").stat().st_ino == before, "appended, and not written anew"
    assert rows(tmp_path)[2:] == [{"step": "3", "bound": "1", "rate": "2"}]
    live = (tmp_path / "metrics.csv").read_bytes()
    records.close()
    records.close()
    assert (tmp_path / "metrics.csv").read_bytes() == live


def test_the_table_has_every_column_even_one_with_a_comma(tmp_path):
    run(tmp_path, 1, 4).close()
    assert list(rows(tmp_path)[0]) == ["step", "bound", "ess", "valid, bound"]
    assert [row["step"] for row in rows(tmp_path)] == ["1", "2", "3", "3", "4"]


@pytest.mark.parametrize("stopped", [3, 5, 7])
@pytest.mark.parametrize("torn", [b"", b'{"step": 8, "bou', b"\0\0\0\0", b'{"step": 4}'])
def test_a_resumed_run_gives_the_bytes_of_one_that_never_stopped(tmp_path, stopped, torn):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    run(whole, 1, 9).close()
    killed = run(cut, 1, 7)
    with open(cut / "metrics.jsonl", "ab") as file:
        file.write(torn)
    resumed = run(cut, stopped + 1, stopped, resume=stopped)
    assert {int(row["step"]) for row in rows(cut)} == set(range(1, stopped + 1)), "the curves go on where they were"
    resumed.close()
    run(cut, stopped + 1, 9, resume=stopped).close()
    for name in ("metrics.jsonl", "metrics.csv"):
        assert (whole / name).read_bytes() == (cut / name).read_bytes()
    assert not list(cut.glob(".*"))
    killed.close()


def test_without_resuming_it_starts_anew(tmp_path):
    run(tmp_path, 1, 5).close()
    run(tmp_path, 1, 2).close()
    assert [record["step"] for record in lines(tmp_path)] == [1, 2]


def test_resuming_where_nothing_was_recorded_is_a_start(tmp_path):
    run(tmp_path, 5, 5, resume=4).close()
    assert [record["step"] for record in lines(tmp_path)] == [5]


@pytest.mark.parametrize("bad", ["{", "[1]", '{"bound": 1}', '{"step": "2"}'])
def test_a_line_that_is_damaged_in_the_middle_is_named(tmp_path, bad):
    (tmp_path / "metrics.jsonl").write_text(f'{{"step": 1}}\n{bad}\n{{"step": 3}}\n')
    with pytest.raises(ValueError, match=r"metrics.jsonl line 2 is no record .*: remove the line"):
        Records(tmp_path, 3)
    assert (tmp_path / "metrics.jsonl").read_text().count("\n") == 3


def test_step_is_no_name_of_a_value(tmp_path):
    records = Records(tmp_path, None)
    with pytest.raises(ValueError, match='no value may be named "step"'):
        records.write(1, {"step": 2.0})
    records.close()


def test_a_place_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(OSError, match="gone"):
        Records(tmp_path / "gone", None)


def test_a_full_disk_is_said_and_leaves_no_half_line(tmp_path):
    """A limit on the size of a file stands for it: the kernel takes a part of the line and refuses the rest."""
    records = Records(tmp_path, None)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        for first in (0, 3):
            with pytest.raises(OSError, match=r"metrics.jsonl cannot be written \(File too large"):
                for step in range(first, 10):
                    records.write(step, {"bound": -1.0})
        records.flush()
        assert [record["step"] for record in lines(tmp_path)] == [0, 1, 2]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    records.write(3, {"bound": -1.0})
    records.close()
    assert [row["step"] for row in rows(tmp_path)] == ["0", "1", "2", "3"]


def test_a_table_that_finds_the_disk_full_stays_as_it_was(tmp_path, monkeypatch):
    records = run(tmp_path, 1, 4)
    before = rows(tmp_path)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left in .*metrics.csv .need about"):
        records.close()
    monkeypatch.undo()
    assert rows(tmp_path) == before
    records.close()


def full(descriptor):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_tensorboard_that_is_not_installed_is_said_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ValueError, match=r"TensorBoard is not installed .*: pip install 'pplvm\[tensorboard\]'"):
        TensorBoard(tmp_path)


def test_tensorboard_holds_what_was_written(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for first, last, resume in ((1, 4, None), (3, 5, 2)):
        records = TensorBoard(tmp_path, resume)
        for step in range(first, last + 1):
            records.write(step, {"bound": -float(step), "last": last})
        records.close()
    found = EventAccumulator(str(tmp_path)).Reload()
    assert [(event.step, event.value) for event in found.Scalars("bound")] == [(i, -float(i)) for i in range(1, 6)]
    assert [event.value for event in found.Scalars("last")] == [4, 4, 5, 5, 5]
