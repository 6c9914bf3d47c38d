"""How comparisons, finished or not, show themselves."""

import re

import numpy as np
import pytest
import torch
import xarray as xr

from pplvm.estimators.compare_gradients import compare_gradients
from pplvm.estimators.comparison import Comparison
from pplvm.estimators.results.display import ComparisonResult
from pplvm.objectives.biased import BiasedStraightThrough
from pplvm.objectives.objective import Loss
from pplvm.objectives.score_function import LeaveOneOut
from pplvm.programs.sigmoid_belief import SigmoidBeliefNet
from tests.plots.test_report import Page

NASTY = "<script>alert('x')</script>"
X = torch.ones(5, 6)


@pytest.fixture(scope="module")
def losses():
    torch.manual_seed(0)
    program = SigmoidBeliefNet(data_size=6, latent_sizes=(2,))
    return {NASTY: Loss(LeaveOneOut(num_particles=2), program), "st": Loss(BiasedStraightThrough(), program)}


@pytest.fixture(scope="module")
def result(losses):
    return compare_gradients(losses, [X], replicates=20)


def test_a_result_shows_its_table_and_stays_a_dataset(result, tmp_path):
    page = Page(re.sub(r"<svg.*?</svg>|<input[^>]*>|<dl.*?</dl>", "", result._repr_html_(), flags=re.DOTALL))
    assert NASTY in page.text and "script" not in page.tags and "gradient of elbo" in page.text
    assert "max |z|" in repr(result) and "xarray.Dataset" in repr(result)
    assert isinstance(result, xr.Dataset) and result["rule"].values.tolist() == ["score function", "biased relaxation"]
    result.to_netcdf(tmp_path / "result.nc")
    with xr.open_dataset(tmp_path / "result.nc") as read:
        xr.testing.assert_equal(read, xr.Dataset(result.data_vars, result.coords))


def test_parts_of_a_result_look_as_datasets_do(result):
    numbers = result.drop_vars([name for name in result if result[name].dtype.kind in "OU"])
    for part in (result.sel(estimator="st"), result[["work", "ms"]], numbers.mean(), result.isel(estimator=[])):
        assert repr(part).startswith("<xarray.") and part._repr_html_()
    assert "gradient of elbo" in repr(result.sel(estimator=["st"]))


def test_looking_changes_no_random_state(losses):
    comparison = Comparison(losses, [X], replicates=20)
    assert "0 of 20 gradients" in repr(comparison) and "0 of 20" in comparison._repr_html_()
    rounds = comparison.rounds()
    next(rounds)
    before = torch.get_rng_state()
    html = comparison._repr_html_()
    assert torch.equal(before, torch.get_rng_state())
    assert "gradient of elbo" in html and "<script>" not in html
    for _ in rounds:
        pass
    shown = comparison.result()
    np.testing.assert_array_equal(shown["variance"], compare_gradients(losses, [X], replicates=20)["variance"])


def test_a_result_that_cannot_be_shown_falls_back(result):
    broken = ComparisonResult(result.drop_vars("variance").data_vars, result.coords)
    assert broken._repr_html_().startswith("<pre>") and "variance_low" in repr(broken)
