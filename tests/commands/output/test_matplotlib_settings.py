"""Figures of commands are drawn into files, whatever backend the environment names, and a notebook keeps its own."""

import os
import subprocess
import sys
from pathlib import Path

import matplotlib
import pytest
import torch

from pplvm.cli import main
from pplvm.commands.output.matplotlib_settings import agg_backend, default_style

ROOT = Path(__file__).parents[3]
RUN = ("fit", "--steps=3", "--set=hidden_sizes=4", "--set=latent_size=2", "--compile=off", "--output=run")


@pytest.mark.parametrize(
    "backend", [pytest.param("nonsense", marks=pytest.mark.slow), "module://matplotlib_inline.backend_inline"]
)
def test_a_backend_that_is_not_there_breaks_no_command(tmp_path, backend):
    environment = os.environ | {"MPLBACKEND": backend, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    judge = [("evaluate", "run", "--limit=4", "--ks=1,2"), ("sample", "run", "--count=4")]
    for words in (RUN, *(judge if backend == "nonsense" else [])):
        found = subprocess.run(
            [sys.executable, "-m", "pplvm", *words], cwd=tmp_path, env=environment, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert found.returncode == 0, found.stderr
    assert (tmp_path / "run" / "curves.png").exists()


IN_A_NOTEBOOK = """
import os, sys
os.environ["MPLBACKEND"] = "module://mine"
from pplvm.cli import main
assert "matplotlib" not in sys.modules
assert main(["fit", "--steps=3", "--set=hidden_sizes=4", "--set=latent_size=2", "--compile=off", "--output=run"]) == 0
assert os.environ["MPLBACKEND"] == "module://mine"
import matplotlib.pyplot as plt
assert plt.rcParams["backend"] == "module://mine"
assert plt.figure().canvas.__class__.__name__ == "Mine", "and it is used"
"""


@pytest.mark.slow
def test_a_notebook_that_has_not_drawn_yet_gets_its_own_backend(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from matplotlib.backends.backend_agg import FigureCanvasAgg\n"
        "class Mine(FigureCanvasAgg): pass\nclass FigureCanvas(Mine): pass\nFigureCanvas = Mine\n"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    found = subprocess.run(
        [sys.executable, "-c", IN_A_NOTEBOOK],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr


def test_one_that_has_drawn_keeps_backend_and_style(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "svg")
    torch.set_default_dtype(torch.float32)
    before = matplotlib.get_backend()
    with matplotlib.rc_context({"font.size": 17}):
        assert main([*RUN, "--overwrite"]) == 0
        assert matplotlib.rcParams["font.size"] == 17
    torch.set_default_dtype(torch.float64)
    assert matplotlib.get_backend() == before and os.environ["MPLBACKEND"] == "svg"


def test_within_a_command_the_style_is_matplotlibs_own():
    with matplotlib.rc_context({"font.size": 17}), default_style():
        assert matplotlib.rcParams["font.size"] == 10


def test_an_environment_that_names_no_backend_stays_so(monkeypatch):
    monkeypatch.delenv("MPLBACKEND", raising=False)
    with agg_backend():
        assert "MPLBACKEND" not in os.environ
    assert "MPLBACKEND" not in os.environ
