"""Section 2 of issue 13: a module of the working directory is never imported in place of a dependency."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

SHADOWED = (
    "PIL", "arviz", "h5netcdf", "jinja2", "matplotlib", "numpy", "pandas", "pyro", "safetensors", "scipy", "sklearn",
    "torch", "torchvision", "tqdm", "xarray", "yaml", "cupy", "tensorboard", "arviz_stats", "netCDF4",
)  # fmt: skip
"""What is imported on the way, and what is tried though it is not installed."""

MODULE = [sys.executable, "-m", "pplvm"]
SCRIPT = [str(Path(sysconfig.get_path("scripts"), "pplvm"))]


def commanded(start, *words):
    """A command as a process of its own, where nobody has set PYTHONPATH."""
    own = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONSAFEPATH")}
    return subprocess.run(
        [*start, *words], capture_output=True, text=True, timeout=300, env=own | {"OMP_NUM_THREADS": "1"}
    )


@pytest.fixture
def planted():
    """Modules that leave a trace beside the user's own."""
    for name in SHADOWED:
        Path(f"{name}.py").write_text(f"from pathlib import Path\nPath('ran-{name}').touch()\n")
    egg = Path("evil.egg-info")  # an entry point, as xarray asks for its backends
    egg.mkdir()
    Path(egg, "PKG-INFO").write_text("Metadata-Version: 2.1\nName: evil\nVersion: 1\n")
    Path(egg, "entry_points.txt").write_text("[xarray.backends]\nevil = cupy:Evil\n")


def test_a_check_runs_no_code_beside_the_program(planted):
    found = commanded(MODULE, "check", "mine:Good", "--data=digits")
    assert found.returncode == 0, found.stderr
    assert not list(Path().glob("ran-*"))


@pytest.mark.slow
@pytest.mark.parametrize("start", [MODULE, SCRIPT], ids=["module", "script"])
def test_no_command_runs_code_beside_a_run(planted, start):
    few = ("--steps=2", "--batch-size=12")
    for words in (
        ("fit", "--output=run", "--program=mine:Good", *few),
        ("fit", "--resume=run", "--steps=3", "--trust=mine"),
        ("evaluate", "run", "--trust=mine", "--ks=1,2", "--limit=10", "--annealed=0"),
        ("sample", "run", "--trust=mine", "--count=4"),
        ("compare", "--program=mine:Good", "--output=compared", "--estimators=rloo", "--replicates=2", *few),
        ("check", "mine:Good"),
        ("verify", "rloo"),
        ("list",),
    ):
        found = commanded(start, *words)
        assert found.returncode == 0, (words, found.stderr)
        assert not list(Path().glob("ran-*")), words


@pytest.mark.slow
def test_the_search_path_that_a_user_sets_stays_theirs():
    Path("sklearn.py").write_text("raise SystemExit('mine')\n")
    found = subprocess.run(
        [*MODULE, "list", "data"], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": os.getcwd()}
    )
    assert found.returncode == 0
    found = subprocess.run(
        [*MODULE, "check"], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": os.getcwd()}
    )
    assert found.stderr.strip().endswith("mine")
