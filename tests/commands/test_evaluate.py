"""`pplvm evaluate` and `pplvm sample`: a trained program judged as a user would have it judged."""

import argparse
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from pplvm.cli import main
from pplvm.commands.evaluation.side_by_side import compare_evaluations
from pplvm.commands.runs.trained_program import TrainedProgram, comparability_caveats
from pplvm.data.spec import DataSpec
from pplvm.evaluation.evaluate import Evaluation
from pplvm.evaluation.figures import Figure
from pplvm.evaluation.likelihood_names import LikelihoodNames


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two trained runs, as a user makes them: a small belief net, and PPCA on real data."""
    folder = tmp_path_factory.mktemp("runs")
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    words = ["--steps=300", "--learning-rate=0.01", "--validate-every=300"]
    net = ["--program=sigmoid-belief-net", "--set=latent_sizes=(6,)", "--objective=rloo"]
    assert main(["fit", *net, *words, f"--output={folder}/net"]) == 0
    assert main(["fit", "--program=ppca", "--binarize=none", *words, f"--output={folder}/ppca"]) == 0
    torch.set_default_dtype(before)
    return folder


@pytest.fixture(autouse=True)
def single_precision(known_state, runs, monkeypatch):
    torch.set_default_dtype(torch.float32)
    monkeypatch.chdir(runs)
    yield
    torch.set_default_dtype(torch.float64)


def evaluate(run, *words):
    return main(["evaluate", run, "--limit=40", "--ks=1,10,100", "--annealed=0", *words])


def figures(directory):
    told = json.loads(Path(directory, "evaluation.json").read_text())
    return told, {row["name"]: row for rows in told["figures"].values() for row in rows}


@pytest.mark.parametrize(("run", "how"), [("net", "64 states summed out"), ("ppca", "in closed form")])
def test_estimates_bracket_the_exact_value(run, how, capsys):
    assert evaluate(run, f"--output={run}-judged") == 0
    told, found = figures(f"{run}-judged")
    exact = found["log p(x), exact"]
    assert exact["note"] == how
    arrays = xr.load_dataset(f"{run}-judged/evaluation.nc")
    gap = arrays["log_p"] - arrays["log_p_exact"]
    error = gap.std("datum") / 40**0.5
    assert (gap.mean("datum") < 3 * error).all()  # from below
    assert abs(float(gap.mean("datum")[-1])) < 0.05
    assert gap.mean("datum").diff("k").min() > 0
    assert found["log p(x), k = 100"]["error"] == pytest.approx(float(arrays["log_p"][:, -1].std(ddof=1)) / 40**0.5)
    rates = {row["name"]: row["value"] for row in told["figures"]["rate and distortion"]}
    assert rates["elbo"] == pytest.approx(-rates["rate"] - rates["distortion"], abs=1e-9)
    surgery = {row["name"]: row["value"] for row in told["figures"]["information"]}
    assert surgery["rate"] == pytest.approx(surgery["I_q(x; z)"] + surgery["KL(q(z) || p(z))"], abs=1e-9)
    assert any("first 40 of 300" in sentence for sentence in told["not_comparable"])
    assert "log p(x), exact" in capsys.readouterr().out
    page = Path(f"{run}-judged/report.html").read_text()
    assert "Not comparable" in page and "data:image/png;base64" in page and "split test" in page
    assert {path.name for path in Path(f"{run}-judged").glob("*.png")} >= {"samples.png", "reconstructions.png"}


def test_an_evaluation_twice_gives_the_same_numbers_and_another_seed_others(monkeypatch):
    monkeypatch.setattr("pplvm.commands.output.pictures.Pictures.draw", lambda *unused: None)
    for name, seed in (("one", 0), ("two", 0), ("other", 1)):
        assert evaluate("net", f"--output={name}", f"--seed={seed}") == 0
    one, two, other = (figures(name)[0]["figures"] for name in ("one", "two", "other"))
    assert one == two and one != other


def test_several_runs_stand_beside_each_other(capsys):
    assert main(["evaluate", "net", "ppca", "--limit=10", "--ks=1,10", "--annealed=0", "--output=both"]) == 0
    assert Path("both/rate-distortion.png").stat().st_size > 5_000
    assert Path("both/net/report.html").exists() and Path("both/ppca/evaluation.json").exists()
    assert re.search(r"^net +-\d", capsys.readouterr().out, re.MULTILINE)


def test_one_number_of_draws_makes_no_empty_curve(capsys):
    assert main(["evaluate", "net", "--limit=10", "--ks=10", "--annealed=0", "--output=one-k"]) == 0
    told, _ = figures("one-k")
    assert not Path("one-k/convergence.png").exists() and "against the number of draws" not in capsys.readouterr().err
    assert any("convergence.png" in sentence and "--ks 1,10,100" in sentence for sentence in told["left_out"])


def as_trained(name, beta):
    settings = argparse.Namespace(beta=beta, seed=0, steps=10, early_stop=None)
    return argparse.Namespace(directory=Path(name), settings=settings, checkpoint=argparse.Namespace(step=10))


def test_a_run_whose_distortion_is_infinite_stands_in_the_table_and_not_in_the_picture(capsys):
    shown = Figure("rate", 1.0, 0.1, "nats"), Figure("distortion", 20.0, 0.1, "nats")
    none = Figure("rate", 1.0, 0.1, "nats"), Figure("distortion", float("inf"), None, "nats")
    runs = [as_trained(name, None) for name in ("good", "broken")]
    found = [Evaluation({"rate and distortion": list(pair)}, {}, ()) for pair in (shown, none)]
    for count, told in ((2, "rate against distortion: "), (1, "")):
        compare_evaluations(runs[-count:], found[-count:], Path())
        printed = capsys.readouterr().out
        assert "not finite: broken" in printed and "inf" in printed and told in printed
    assert "rate against distortion:" not in printed


def test_runs_of_different_likelihoods_are_on_no_common_curve(capsys, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        "pplvm.commands.evaluation.side_by_side.save_rate_distortion", lambda points, path: drawn.extend(points)
    )
    shown = [Figure("rate", 1.0, 0.1, "nats"), Figure("distortion", 20.0, 0.1, "nats")]
    runs = [as_trained(name, beta) for name, beta in (("of-x", 1.0), ("of-labels", 2.0))]
    found = [
        Evaluation({"rate and distortion": shown}, {}, (), names)
        for names in (LikelihoodNames(), LikelihoodNames(observed=("labels",)))
    ]
    compare_evaluations(runs, found, Path())
    assert [point["label"] for point in drawn] == ["of-x, log p(x)", "of-labels, log p(x, labels)"]
    assert not any("beta" in point for point in drawn)
    assert "log p(x, labels) -" in capsys.readouterr().out
    drawn.clear()
    compare_evaluations(runs, [found[0], found[0]], Path())
    assert [(point["label"], point["beta"]) for point in drawn] == [("of-x", 1.0), ("of-labels", 2.0)]


def test_annealing_stands_beside_importance_sampling_on_the_same_data():
    assert evaluate("net", "--output=annealed", "--annealed=3", "--chains=8", "--annealing-steps=30") == 0
    told, found = figures("annealed")
    rows = told["figures"]["annealed importance sampling"]
    same = next(row for row in rows if "same 3 data" in row["name"])
    assert rows[0]["value"] == pytest.approx(same["value"], abs=0.5)


def test_samples_are_pictures_and_arrays(capsys):
    assert main(["sample", "net", "--count=9", "--seed=4"]) == 0
    found = np.load("net/samples/samples.npz")
    assert found["draw"].shape == found["mean"].shape == (9, 8, 8)
    assert set(np.unique(found["draw"])) == {0.0, 1.0} and 0 < found["mean"].min() < found["mean"].max() < 1
    names = {path.name for path in Path("net/samples").iterdir()}
    assert names >= {"samples.png", "draws.png", "reconstructions.png", "traversal-z_1.png", "samples.npz"}
    assert main(["sample", "net"]) == 2
    assert "exists: replace it by --overwrite" in capsys.readouterr().err
    assert main(["sample", "net", "--overwrite"]) == 0
    assert main(["sample", "net", "--temperature=0.5", "--output=cold"]) == 2
    assert "temperature 0.5: latent 'z_1'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nowhere"], "there is no directory nowhere: name one that pplvm fit wrote"),
        (["net", "--ks=10,1"], "--ks must rise from at least 1, as 1,10,100, got '10,1'"),
        (["net", "--ks=ten"], "--ks must read 1,10,100, got 'ten'"),
        (["."], "there is no file config.yaml"),
        (["net", "--output=held", "--overwrite"], "held holds 'thesis.tex', which no pplvm evaluate wrote"),
    ],
)
def test_bad_input_is_one_sentence_and_loses_nothing(words, sentence, capsys):
    Path("held").mkdir(exist_ok=True)
    Path("held/thesis.tex").write_text("mine")
    assert main(["evaluate", *words]) == 2
    told = capsys.readouterr().err
    assert sentence in told and told.count("\n") == 1
    assert Path("held/thesis.tex").read_text() == "mine"


def test_code_that_only_a_run_names_is_not_imported(capsys, monkeypatch):
    Path("stranger.py").write_text("open('ran', 'w').close()\nfrom pplvm.programs.vae import VAE\n")
    config = Path("net/config.yaml").read_text()
    Path("theirs").mkdir(exist_ok=True)
    Path("theirs/config.yaml").write_text(config.replace("program: sigmoid-belief-net", "program: stranger:VAE"))
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    assert main(["evaluate", "theirs"]) == 2
    assert "which would run that module's code: if you trust it, add --trust stranger" in capsys.readouterr().err
    assert not Path("ran").exists()
    assert main(["evaluate", "theirs", "--trust=stranger"]) == 2
    assert "no checkpoint" in capsys.readouterr().err


TWO_SITES = """
import pyro
import pyro.distributions as dist
from torch import nn


class TwoSites(nn.Module):
    def __init__(self, data_size):
        super().__init__()
        self.decoder, self.encoder = nn.Linear(2, data_size), nn.Linear(data_size, 2)

    def model(self, x):
        x = x.flatten(1)
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(len(x), 2), 1.0).to_event(1))
            for name, logits, obs in zip("ab", self.decoder(z).split(32, -1), x.split(32, -1)):
                pyro.sample(name, dist.Bernoulli(logits=logits).to_event(1), obs=obs)

    def guide(self, x):
        with pyro.plate("batch", len(x)):
            pyro.sample("z", dist.Normal(self.encoder(x.flatten(1)), 1.0).to_event(1))
"""


def test_a_program_that_draws_no_pictures_has_its_figures(monkeypatch):
    """Nor a certificate, nor bounds that need dreams: the rest of a long evaluation is not lost with them."""
    Path("two_sites.py").write_text(TWO_SITES)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    assert main(["fit", "--program=two_sites:TwoSites", "--steps=2", "--output=halves"]) == 0
    words = ["--annealed=1", "--chains=2", "--annealing-steps=3"]
    assert main(["evaluate", "halves", "--trust=two_sites", "--limit=10", "--ks=1,10", *words]) == 0
    told, found = figures("halves/evaluation-test")
    assert {"log p(x), k = 10", "log p(x), annealed", "InfoNCE I_q(x; z)"} <= found.keys()
    for what in ("certificate", "samples.png", "draws.png"):
        (sentence,) = (each for each in told["left_out"] if each.startswith(what))
        assert "the model observes 'a' and 'b'" in sentence
    left_out = "; ".join(told["left_out"])
    assert "info_nce_of_dreams" in left_out and "barber_agakov" in left_out
    assert Path("halves/evaluation-test/report.html").is_file()


@pytest.mark.parametrize(
    ("data", "binarization", "split", "told"),
    [
        ("binarized-mnist", "given", "test", None),
        ("binarized-mnist", "given", "valid", "of the valid split"),
        ("mnist", "dynamic", "test", "binarized once, by seed 0"),
        ("mnist", "static", "test", "by a threshold"),
        ("digits", "given", "test", "digits is no data set"),
    ],
)
def test_what_does_not_compare_with_published_figures(data, binarization, split, told):
    class Data(list):
        spec = DataSpec(data.replace("-", "_"), 3, (4,), levels=2, binarization=binarization)

    settings = argparse.Namespace(data=data, seed=0, split="train")
    trained = TrainedProgram(Path(), settings, None, None, Data(range(3)), torch.device("cpu"))
    found = comparability_caveats(trained, split, 3)
    assert len(found) == (told is not None) and all(told in sentence for sentence in found)


def test_data_that_have_changed_since_training_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr("pplvm.commands.output.pictures.Pictures.draw", lambda *unused: None)
    rows = np.random.default_rng(0).integers(0, 2, (40, 6), dtype=np.uint8)
    words = [f"--data={tmp_path}/mine.npz", "--batch-size=8", "--steps=1", "--compile=off"]
    told = {}
    for name, order in {"same": np.arange(40), "shuffled": np.arange(40)[::-1]}.items():
        np.savez(tmp_path / "mine.npz", x_train=rows[:30], x_test=rows[30:])
        assert main(["fit", *words, f"--output={tmp_path}/{name}"]) == 0
        np.savez(tmp_path / "mine.npz", x_train=rows[order][:30], x_test=rows[order][30:])
        assert main(["evaluate", f"{tmp_path}/{name}", "--ks=1"]) == 0
        said = json.loads((tmp_path / name / "evaluation-test" / "evaluation.json").read_text())["not_comparable"]
        told[name] = [each for each in said if each.endswith("may have been trained on")]
    assert told == {
        "same": [],
        "shuffled": [f"{tmp_path}/mine.npz has changed since training: some of these data may have been trained on"],
    }


def test_annealing_is_asked_for_and_what_it_takes_is_told(capsys, monkeypatch):
    monkeypatch.setattr("pplvm.commands.output.pictures.Pictures.draw", lambda *unused: None)
    assert main(["evaluate", "net", "--limit=30", "--ks=1,10", "--output=plain"]) == 0
    told = capsys.readouterr().out
    hint = re.search(r"^annealed importance sampling .*: --annealed 20 adds it, about \d+ (s|min)$", told, re.MULTILINE)
    assert hint, told
    assert "annealed importance sampling" not in figures("plain")[0]["figures"]
    assert "--annealed 20 adds it, about" in Path("plain/report.html").read_text()
    assert evaluate("net", "--output=asked", "--annealed=1", "--chains=2", "--annealing-steps=2") == 0
    assert "adds it" not in capsys.readouterr().out


def test_figures_in_the_terminal_are_aligned_and_fit(capsys, monkeypatch):
    monkeypatch.setattr("pplvm.commands.output.pictures.Pictures.draw", lambda *unused: None)
    assert evaluate("net", "--output=aligned") == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    rows = [line for line in lines if " +- " in line and line.startswith("  ") and not line.startswith("    ")]
    assert len(rows) > 10 and len({line.index("+-") for line in rows}) == 1
    numbers = [re.search(r"-?\d+(\.\d+)? +\+-", line) for line in rows]
    points = {line.index(".", match.start()) for line, match in zip(rows, numbers, strict=True) if match.group(1)}
    assert len(points) == 1, "numbers stand on their decimal points"


def test_every_tenth_datum_is_judged_as_in_the_whole_split(capsys):
    words = ["evaluate", "ppca", "--ks=1,10"]
    assert main([*words, "--output=whole"]) == 0
    assert main([*words, "--every=10", "--limit=20", "--output=tenths"]) == 0
    whole, tenths = (xr.load_dataset(f"{name}/evaluation.nc").log_p_exact.values for name in ("whole", "tenths"))
    np.testing.assert_allclose(tenths, whole[::10][:20], rtol=1e-6)
    assert "only one datum in 10, 20 of 300 data of the split" in capsys.readouterr().out
