"""What is written is found: by xarray in the root, by ArviZ 0.x and 1.x in its groups."""

import arviz as az
import numpy as np
import pytest
import xarray as xr

from pplvm.commands.output.netcdf import draws_of, one_draw_of, save


@pytest.fixture(scope="module")
def comparison():
    """Two minibatches of 60 replicates of one estimator, its loss standard normal; summaries beside them."""
    noise = np.random.default_rng(0).normal(size=(2, 60, 1))
    return xr.Dataset(
        {"loss": (("chain", "draw", "estimator"), noise), "variance": ("estimator", [2.0]), "drawn": 1},
        coords={"chain": [0, 1], "draw": range(60), "estimator": ["rloo"]},
        attrs={"program": "vae"},
    )


@pytest.fixture(scope="module")
def evaluation():
    arrays = {
        "log_p": (("datum", "k"), [[-3.0, -2.0], [-1.0, -0.5], [-9.0, -8.0]]),
        "rate": ("datum", [1.0, 2.0, 3.0]),
    }
    return xr.Dataset(arrays, coords={"k": [1, 10]})


def groups_of(path, within=None):
    """As ArviZ 0.x opens them, and as 1.x does, whose `from_netcdf` is xarray's `open_datatree`."""
    old = az.from_netcdf(path) if within is None else az.InferenceData.from_netcdf(path, base_group=within)
    new = xr.open_datatree(path, engine="h5netcdf", group=within)
    assert sorted(old.groups()) == sorted(name.strip("/") for name in new.groups if name.count("/") == 1)[1:]
    return old, new


def test_replicates_are_the_draws_of_a_posterior(comparison, tmp_path):
    path = tmp_path / "gradients.nc"
    save(path, comparison, draws_of(comparison))
    assert xr.load_dataset(path, engine="h5netcdf").identical(comparison)
    old, new = groups_of(path)
    assert old.groups() == ["posterior"] and list(old.posterior) == ["loss"]
    assert new["posterior"].to_dataset()["loss"].equals(comparison["loss"])
    assert float(az.ess(old)["loss"].item()) > 60
    assert list(az.summary(old).index) == ["loss[rloo]"]


def test_several_sections_are_each_below_a_group(comparison, tmp_path):
    path = tmp_path / "gradients.nc"
    for name in ("vae-fresh", "vae-500-steps"):
        save(path, comparison.assign_attrs(checkpoint=name), draws_of(comparison), name)
        assert xr.load_dataset(path, engine="h5netcdf", group=name).attrs["checkpoint"] == name
    for name in ("vae-fresh", "vae-500-steps"):
        old, new = groups_of(path, f"/{name}")
        assert old.posterior["loss"].equals(comparison["loss"]) and old.attrs["checkpoint"] == name
        assert new["posterior"]["loss"].equals(comparison["loss"])


def test_terms_of_a_datum_are_those_of_one_draw_of_the_parameters(evaluation, tmp_path):
    path = tmp_path / "evaluation.nc"
    save(path, evaluation, one_draw_of(evaluation))
    assert xr.load_dataset(path, engine="h5netcdf").identical(evaluation)
    old, new = groups_of(path)
    assert sorted(old.groups()) == ["log_likelihood", "sample_stats"]
    for found in (old.log_likelihood, new["log_likelihood"].to_dataset()):
        assert found["log_p"].dims == ("chain", "draw", "datum", "k")
        assert float(found["log_p"].sel(k=10).mean()) == pytest.approx(-3.5)
    assert old.sample_stats["rate"].values.tolist() == [[[1.0, 2.0, 3.0]]]
