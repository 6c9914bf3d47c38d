"""`pplvm compare --budget` runs to its end at whatever K the budget comes to, and at any K that is asked for."""

import pytest
import torch
import xarray as xr

from pplvm.cli import main

QUICK = ["--steps=0", "--replicates=4", "--minibatches=1", "--batch-size=20", "--sweep=", "--output=run"]
RELAXED = "--estimators=relax,rebar,muprop"
"""Estimators whose graphs differentiate through relaxed draws, where views of folded constants once failed."""


@pytest.fixture(autouse=True)
def as_a_user(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pplvm.commands.comparison.comparison_files.save_figures", lambda *section: [])
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(torch.float64)


def measured(*words):
    assert main(["compare", *QUICK, *words]) == 0
    with xr.open_dataset("run/gradients.nc", engine="h5netcdf") as found:
        return found.load()


@pytest.mark.parametrize("budget", [20, *(pytest.param(budget, marks=pytest.mark.slow) for budget in (7, 13, 50))])
def test_equal_work_is_measured_at_every_budget(budget):
    found = measured(f"--budget={budget}", RELAXED)
    assert found.sizes["estimator"] == 3 and not found.attrs.get("left_out")
    assert bool((found.evaluations <= budget).all()) and bool(found.variance.notnull().all())


@pytest.mark.parametrize("particles", [1, 10])
def test_relax_is_measured_at_any_number_of_particles(particles):
    found = measured(f"--particles={particles}", "--estimators=relax,rebar")
    assert found.sizes["estimator"] == 2 and bool(found.variance.notnull().all())
