"""`pplvm evaluate --factors`: scores beside the likelihood, several seeds together, and data without factors."""

import json
from pathlib import Path

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
import xarray as xr

from pplvm.cli import main
from pplvm.commands.evaluate import _factor_map
from pplvm.commands.evaluation.factor_scores import factor_arrays, factors_for, scored
from pplvm.commands.runs.trained_program import TrainedProgram
from pplvm.data.factors import Factors
from pplvm.data.sprites import sprites
from pplvm.evaluation.evaluation import Evaluation
from pplvm.programs.vae import VAE

DATA = "--data=sprites@side=16@sizes=2,2,8,8@count=700"
QUICK = ["--limit=60", "--ks=1,10"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Three runs on sprites, two of which differ by the seed alone, and one on digits."""
    folder = tmp_path_factory.mktemp("runs")
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    words = ["--program=vae", "--set=latent_size=4", "--objective=analytic-kl", "--steps=40", "--validate-every=40"]
    for name, more in (
        ("one", [DATA, "--beta=2"]),
        ("two", [DATA, "--beta=2", "--seed=1"]),
        ("tcvae", [DATA, "--objective=beta-tcvae@beta=4"]),
        ("digits", []),
    ):
        assert main(["fit", *words, *more, f"--output={folder}/{name}"]) == 0
    torch.set_default_dtype(before)
    return folder


@pytest.fixture
def beside_the_runs(known_state, runs, monkeypatch):
    """In the folder of the runs, and in single precision as a user is."""
    torch.set_default_dtype(torch.float32)
    monkeypatch.chdir(runs)
    yield
    torch.set_default_dtype(torch.float64)


@pytest.mark.usefixtures("beside_the_runs")
def test_scores_are_a_section_with_their_circumstances(capsys):
    assert main(["evaluate", "one", "--factors", *QUICK, "--output=scored"]) == 0
    told = json.loads(Path("scored/evaluation.json").read_text())
    rows = {row["name"]: row for row in told["figures"]["disentanglement, one seed"]}
    assert rows.keys() >= {"MIG", "SAP", "DCI disentanglement", "FactorVAE score", "Higgins' score"}
    assert all(0 <= row["value"] <= 1 and "chance" in row["note"] for row in rows.values())
    assert "scale (2)" in told["circumstances"]["factors"] and "of one seed" in told["circumstances"]["factors"]
    arrays = xr.load_dataset("scored/evaluation.nc")
    assert arrays["factor_level"].shape == (60, 5) and list(arrays["factor"].values)[-1] == "y"
    assert arrays["factor_information"].shape == arrays["factor_importance"].shape == (4, 5)
    assert np.isin(arrays["factor_level"].sel(factor="shape"), (0, 1, 2)).all()
    page = Path("scored/report.html").read_text()
    scores, factors, traversals = (page.index(word) for word in ("Higgins", "tells of each factor", "One unit of z"))
    assert scores < factors < traversals < page.index("Samples of the prior")  # traversals beside the scores
    assert Path("scored/factors.png").stat().st_size > 5_000 and "MIG" in capsys.readouterr().out


@pytest.mark.usefixtures("beside_the_runs")
def test_runs_of_several_seeds_are_told_with_their_spread(capsys):
    assert main(["evaluate", "one", "two", "tcvae", "--factors", *QUICK, "--output=together"]) == 0
    printed = capsys.readouterr().out
    assert "n is the number of seeds" in printed and "one seed, and so no spread" in printed
    groups = json.loads(Path("together/seeds.json").read_text())
    assert [(group["n"], group["seeds"]) for group in groups] == [(2, [0, 1]), (1, [0])]
    for name in ("MIG", "rate", "log p(x)"):
        found = groups[0]["figures"][name]
        assert found["mean"] == pytest.approx(np.mean(found["values"]))
        assert found["standard_deviation"] == pytest.approx(np.std(found["values"], ddof=1))
        assert groups[1]["figures"][name]["standard_deviation"] is None
    assert Path("together/rate-distortion.png").exists()
    assert main(["evaluate", "one", "two", "--factors", *QUICK, "--output=together"]) == 2
    assert "--overwrite" in capsys.readouterr().err


@pytest.mark.usefixtures("beside_the_runs")
def test_data_without_factors_are_refused_before_anything_is_evaluated(capsys):
    assert main(["evaluate", "digits", "--factors", *QUICK]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "--factors factors: data set 'digits' has no array 'factors'" in error and "use sprites" in error
    assert not Path("digits/evaluation-test").exists()
    assert main(["evaluate", "one", "--factors", "colours", *QUICK]) == 2
    assert "it has factors; name the one" in capsys.readouterr().err


class Plain(torch.nn.Module):
    """No latents."""

    def model(self, x):
        with pyro.plate("batch", len(x)):
            pyro.sample("x", dist.Bernoulli(torch.full((256,), 0.5)).to_event(1), obs=x.flatten(1))

    def guide(self, x):
        pass


@pytest.mark.parametrize(
    ("program", "limit", "told"),
    [
        (VAE(256, 1, (5,)), 60, "scores compare two latents or more, and the program has one"),
        (Plain(), 60, "the program has no latents whose codes are scored"),
        (VAE(256, 2, (5,)), 2, "no two data share a level of factor"),
        (VAE(256, 2, (5,)), 1, "0 columns that vary"),
    ],
)
def test_codes_that_could_not_be_scored_are_refused_before_anything_is_evaluated(program, limit, told):
    data = sprites("test", side=16, sizes=(2, 2, 8, 8), count=700)
    trained = TrainedProgram(Path("run"), None, None, program, data, torch.device("cpu"))
    with pytest.raises(ValueError, match=f"--factors factors: .*{told}"):
        factors_for(trained, "factors", limit)


def test_latents_of_several_sites_are_named_and_only_the_most_telling_are_drawn(monkeypatch):
    factors = torch.cartesian_prod(torch.arange(3), torch.arange(4)).repeat(30, 1)
    codes = {"posterior_mean_z_1": torch.zeros(360, 2), "posterior_mean_z_2": factors.double()}
    found = scored(Evaluation({}, codes, ()), Factors(factors, ("shape", "x")), 0)
    names = ("z_1[0]", "z_1[1]", "z_2[0]", "z_2[1]")
    assert found.disentanglement.latent_names == names
    assert tuple(factor_arrays(found, Factors(factors, ("shape", "x")))["latent"][1]) == names
    drawn = []
    monkeypatch.setattr("pplvm.commands.evaluate.save_factor_map", lambda *told: drawn.append(told) or told[-1])
    monkeypatch.setattr("pplvm.commands.evaluate.MOST_LATENTS", 2)
    (title,) = _factor_map(found, Path("run"), {})
    assert title == "What the 2 most telling of 4 latents tell of each factor" and drawn[0][0].shape == (2, 2)
    assert drawn[0][3] == ["z_2[0]", "z_2[1]"]
