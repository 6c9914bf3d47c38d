"""The README is true: its Python runs, its names exist, its commands are those that CI runs."""

import re
from pathlib import Path

import torch

from pplvm.catalog import DATASETS, OBJECTIVES, PROGRAMS
from pplvm.cli import main
from pplvm.data.batches import fixed_batch

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_the_python_blocks_run_and_learn(capsys):
    torch.set_default_dtype(torch.float32)  # as a user runs it
    try:
        first, graph = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
        assert len([line for line in first.splitlines() if line.strip()]) <= 7
        torch.manual_seed(0)
        names = {}
        exec(compile(first, "README.md", "exec"), names)
        names["x"] = fixed_batch(names["data"], 100)
        exec(compile(graph, "README.md", "exec"), names)
    finally:
        torch.set_default_dtype(torch.float64)
    values = [float(line.split()[0]) for line in capsys.readouterr().out.splitlines()]
    assert len(values) == 13 and values[-1] < values[0] - 2
    assert names["step"].tier_now == "graph" and abs(float(names["value"]) - values[-1]) < 2


def test_every_name_of_the_catalog_stands_there():
    for name in [*DATASETS, *OBJECTIVES, *PROGRAMS]:
        assert f"`{name}`" in README, name


def test_the_commands_are_known(capsys):
    for line in re.findall(r"^pplvm (.*)$", README, re.MULTILINE):
        words = line.split("#")[0].split()
        assert words[0] in ("fit", "evaluate", "sample", "compare", "check", "verify")
        try:
            main([words[0], "--help"])
        except SystemExit as exit:
            assert exit.code == 0
        shown = capsys.readouterr().out
        assert all(word in shown for word in words if word.startswith("--")), line


def test_ci_runs_the_test_command():
    ci = (Path(__file__).parent.parent / ".ci" / "run").read_text()
    assert 'grep -m1 "^python3 -m venv .*pytest$" README.md' in ci
    assert len(re.findall(r"^python3 -m venv .*pytest$", README, re.MULTILINE)) == 1
    assert len(re.findall(r"^python3 -m venv .*pplvm compare$", README, re.MULTILINE)) == 1
