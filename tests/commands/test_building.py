"""Programs held against data of their own kind: counts, times, fractions, token ids, and what they make of x."""

import json
from pathlib import Path

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
import yaml
from torch import nn

from pplvm.cli import main
from pplvm.commands.building import build_data, check_data
from pplvm.commands.options import build_parser
from pplvm.data.arrays import from_rows

D = 3


class Story(nn.Module):
    """z ~ N(0, I), x | z from a likelihood of its own, which observes what the program makes of the batch."""

    def __init__(self, likelihood=None, made=lambda x: x):
        super().__init__()
        self.decoder, self.encoder = nn.Linear(1, D), nn.Linear(D, 1)
        self.likelihood = likelihood or (lambda mean, x: dist.NegativeBinomial(3.0, logits=mean))
        self.made = made

    def model(self, x):
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            pyro.sample("x", self.likelihood(self.decoder(z), x).to_event(1), obs=self.made(x.flatten(1)))

    def guide(self, x):
        with pyro.plate("batch", len(x)):
            mean = self.encoder(torch.log1p(x.flatten(1).clamp(min=0)))
            pyro.sample("z", dist.Normal(mean, 1.0).to_event(1))


COUNTS = np.arange(60).reshape(20, D) * 37
LIKELIHOODS = {
    "counts": (lambda mean, x: dist.NegativeBinomial(3.0, logits=mean), COUNTS, -1.0),
    "counts as floats": (lambda mean, x: dist.Poisson(mean.exp()), COUNTS.astype(np.float32), 0.5),
    "times": (lambda mean, x: dist.Gamma(mean.exp(), 1.0), COUNTS * 0.01 + 0.1, -0.1),
    "fractions": (lambda mean, x: dist.Beta(mean.exp(), 1.0), COUNTS / 3000 + 0.01, 1.01),
    "token ids": (lambda mean, x: dist.Categorical(logits=mean.unsqueeze(-1) * torch.ones(9)), COUNTS % 9, 9.0),
}


def first_batch(data):
    return data.rows(torch.arange(4)).double()


@pytest.mark.parametrize("kind", LIKELIHOODS)
def test_a_likelihood_takes_data_within_its_support_and_no_datum_outside(kind):
    likelihood, array, outside = LIKELIHOODS[kind]
    data = from_rows(array, "mine", "all")
    assert data.spec.levels is None
    check_data(Story(likelihood), data, first_batch(data))
    array = array.astype(type(outside)) if isinstance(outside, float) else array
    array[18, 1] = outside  # in the last rows, which fill no batch of four with those before
    data = from_rows(array, "mine", "all")
    with pytest.raises(ValueError, match=rf"has real values, {outside:g} in row 18 of its split, but site 'x' is a"):
        check_data(Story(likelihood), data, first_batch(data))


def test_what_the_program_makes_of_the_data_is_not_held_against_their_levels():
    pixels = from_rows((COUNTS % 256).astype(np.uint8), "mine", "all")
    with pytest.raises(
        ValueError, match=r"256 grey levels .* fractions k/255 .* classes, read them with --values integer"
    ):
        check_data(Story(), pixels, first_batch(pixels))
    check_data(Story(made=lambda x: (x * 255).round()), pixels, first_batch(pixels))
    bernoulli = lambda mean, x: dist.Bernoulli(logits=mean)
    with pytest.raises(ValueError, match=r"is a Bernoulli, .*: binarize the data \(--binarize static or dynamic\)"):
        check_data(Story(bernoulli), pixels, first_batch(pixels))
    check_data(Story(bernoulli, made=lambda x: (x > 0.5).double()), pixels, first_batch(pixels))


def test_a_datum_that_the_program_maps_into_the_support_is_taken():
    data = from_rows(np.append(COUNTS[:-1], [[-1, 2, 3]], axis=0), "mine", "all")
    with pytest.raises(ValueError, match="-1 in row 19"):
        check_data(Story(), data, first_batch(data))
    check_data(Story(made=lambda x: x.clamp(min=0)), data, first_batch(data))


def test_a_support_of_each_datum_is_held_against_that_datum():
    data = from_rows(COUNTS * 0.1, "mine", "all")
    below_twice = lambda mean, x: dist.Uniform(0 * mean, 2 * x + 1)
    check_data(Story(below_twice), data, first_batch(data))


@pytest.fixture
def single_precision():
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(torch.float64)


@pytest.mark.parametrize("dtype", [np.int64, np.uint16, np.float32])
def test_counts_are_trained_on_from_the_command_line(dtype, tmp_path, monkeypatch, capsys, single_precision):
    monkeypatch.chdir(tmp_path)
    np.savez("counts.npz", x=COUNTS.astype(dtype))
    words = ["--data=counts.npz", "--binarize=none", "--batch-size=4"]
    assert main(["check", f"{__name__}:Story", *words]) == 0
    assert "no violations" in capsys.readouterr().out
    few = ["--steps=2", "--output=run", "--compile=off"]
    assert main(["fit", f"--program={__name__}:Story", *words, *few]) == 0


GREY = np.random.default_rng(0).integers(0, 256, (60, 3, 4, 4), dtype=np.uint8)


@pytest.mark.parametrize(
    ("array", "words", "levels", "binarization"),
    [
        (None, [], 2, "static"),
        (None, ["--binarize=dynamic"], 2, "dynamic"),
        (None, ["--binarize=none"], 17, "none"),
        (GREY, [], 256, "none"),
        (GREY, ["--binarize=static"], 2, "static"),
        (GREY / 255, [], 256, "none"),
        (GREY % 2, [], 2, "given"),
        (GREY % 2, ["--binarize=static"], 2, "given"),
        (GREY * 0.7, [], None, "none"),
        (GREY // 16, ["--levels=17"], 17, "none"),
        (GREY // 16, ["--levels=17", "--binarize=static"], 2, "static"),
        (GREY, ["--values=integer"], None, "none"),
        (GREY // 16, ["--values=real"], None, "none"),
        (GREY.astype(np.int64), ["--values=grey"], 256, "none"),
    ],
)
def test_only_the_digits_are_binarized_unasked(array, words, levels, binarization, tmp_path):
    if array is not None:
        np.save(tmp_path / "mine.npy", array)
        words = [f"--data={tmp_path / 'mine.npy'}", *words]
    for command in (["fit"], ["compare"], ["check"]):
        arguments = build_parser().parse_args([*command, *words])
        spec = build_data(arguments).spec
        assert (spec.levels, spec.binarization) == (levels, binarization)
        chosen = next((word.partition("=")[2] for word in words if "--binarize" in word), None)
        assert arguments.binarize == chosen or chosen is None
        assert arguments.binarize == chosen or arguments.binarize == ("none" if array is not None else "static")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--values=integer", "--binarize=static"], "--values integer .* and --binarize static takes them for grey"),
        (["--values=integer", "--levels=17"], "--values integer and --levels 17 contradict each other"),
        (["--data=digits", "--levels=17"], "data set 'digits' has levels of its own: leave --levels and --values out"),
        (["--data=mnist", "--values=real"], "data set 'mnist' has levels of its own"),
        (["--levels=17"], "numbers from 0 to 255, and --levels 17 reads 0 to 16"),
    ],
)
def test_options_that_contradict_each_other_or_the_data(words, told, tmp_path):
    np.save(tmp_path / "mine.npy", GREY)
    arguments = build_parser().parse_args(["fit", f"--data={tmp_path / 'mine.npy'}", *words])
    with pytest.raises(ValueError, match=told):
        build_data(arguments)


@pytest.fixture
def small_digits(tmp_path, monkeypatch, single_precision):
    """scikit-learn's digits as anyone would save them: uint8, 0 to 16."""
    from sklearn.datasets import load_digits

    monkeypatch.chdir(tmp_path)
    np.save("mine.npy", load_digits().images.astype(np.uint8))


READ = "mine.npy, train: 1,439 of shape (8, 8), grey, 17 levels, stored as 0 to 16; binarization: static (x > 0.5)"


@pytest.mark.parametrize("command", [["check", "vae"], ["fit"], ["compare"]])
def test_small_integers_do_not_become_black_images(command, small_digits, capsys):
    assert main([*command, "--data=mine.npy", "--binarize=static"]) == 2
    shown = capsys.readouterr()
    assert "from 0 to 16, and nothing says which number is white: give --levels 17 if 16 is, " in shown.err
    assert not Path("runs").exists()


def test_what_was_read_is_told_and_repeated(small_digits, capsys):
    words = ["--data=mine.npy", "--levels=17", "--binarize=static"]
    assert main(["check", "vae", *words]) == 0
    assert capsys.readouterr().out.startswith(f"data: {READ}, 2")  # some 29 % ones
    assert main(["fit", *words, "--steps=2", "--output=run"]) == 0
    assert f"\ndata: {READ}, 2" in capsys.readouterr().err
    config, manifest = yaml.safe_load(Path("run/config.yaml").read_text()), next(Path("run").rglob("manifest.json"))
    assert (config["binarize"], config["levels"], config["values"]) == ("static", 17, None)
    assert json.loads(manifest.read_text())["data"]["binarization"] == "static"
    few = ["--ks=1", "--limit=5", "--annealed=0"]
    assert main(["evaluate", "run", *few]) == 0
    told = json.loads(Path("run/evaluation-test/evaluation.json").read_text())["circumstances"]
    assert told["data read"].startswith("mine.npy, test: 179 of shape (8, 8), grey, 17 levels, stored as 0 to 16; ")
    assert main(["fit", "--resume=run", "--steps=3"]) == 0
    assert f"\ndata: {READ}, 2" in capsys.readouterr().err


def test_what_was_chosen_for_the_user_stands_in_the_configuration(small_digits, capsys):
    for words, chosen in (([], "static"), (["--data=mine.npy", "--values=real", "--set=likelihood=gaussian"], "none")):
        assert main(["fit", *words, "--steps=1", "--output=run", "--overwrite"]) == 0
        assert yaml.safe_load(Path("run/config.yaml").read_text())["binarize"] == chosen
    few = ["--estimators=rloo,arm", "--steps=0", "--replicates=2", "--sweep=", "--minibatches=1", "--output=seen"]
    assert main(["compare", *few]) == 0
    assert yaml.safe_load(Path("seen/config.yaml").read_text())["binarize"] == "static"
    assert "data: digits, train: 1,297 of shape (8, 8), grey, 17 levels, stored" in capsys.readouterr().err
    assert "binarization: static (x &gt; 0.5), 2" in Path("seen/report.html").read_text()


def test_an_old_run_keeps_its_binarization(small_digits, capsys):
    """A configuration says `static` of whatever data, as all did by default."""
    np.save("mine.npy", GREY[:, 0])
    Path("old.yaml").write_text("binarize: static\ndata: mine.npy\nsteps: 1\n")
    assert main(["fit", "--config=old.yaml", "--output=run"]) == 0
    assert yaml.safe_load(Path("run/config.yaml").read_text())["binarize"] == "static"
    assert main(["evaluate", "run", "--ks=1", "--limit=5", "--annealed=0"]) == 0
    assert "; binarization: static (x > 0.5), " in Path("run/evaluation-test/evaluation.json").read_text()


def test_images_in_colour_are_not_thresholded_unasked(small_digits, capsys):
    np.save("mine.npy", GREY)
    assert main(["fit", "--data=mine.npy", "--output=run"]) == 2
    assert "'mine.npy' has 256 grey levels in [0, 1], but site 'x' is a Bernoulli" in capsys.readouterr().err
    assert main(["check", "vae", "--data=mine.npy", "--binarize=dynamic"]) == 0
    assert "(3, 4, 4), RGB, 256 levels, stored as 0 to 255; binarization: dynamic (drawn" in capsys.readouterr().out


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float64])
def test_bytes_are_a_way_for_classes_too(dtype, small_digits, capsys):
    np.save("mine.npy", (COUNTS % 9).astype(dtype))
    words = ["--data=mine.npy", "--values=integer", "--batch-size=4"]
    assert main(["check", f"{__name__}:OfNineClasses", *words]) == 0
    assert "integers from 0 to 8; binarization: none" in capsys.readouterr().out
    few = ["--steps=2", "--output=run", "--compile=off"]
    assert main(["fit", f"--program={__name__}:OfNineClasses", *words, *few]) == 0


class OfNineClasses(Story):
    def __init__(self):
        super().__init__(lambda mean, x: dist.Categorical(logits=mean.unsqueeze(-1) * torch.ones(9)))


def test_large_values_are_named_where_they_are_the_cause(small_digits, capsys):
    np.save("mine.npy", GREY.astype(np.int64)[:, 0] * 3)
    assert main(["fit", "--data=mine.npy", "--output=run"]) == 2
    told = "; its values run from 0 to 765: scale them, or, if they are grey images, give their --levels"
    assert told in capsys.readouterr().err
    assert main(["fit", "--data=mine.npy", "--output=run", "--set=data_size=5"]) == 2
    assert "its values run" not in capsys.readouterr().err
