"""How the command line reads a data set: nothing that loses information unasked, and what was read is told."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from pplvm.cli import main
from pplvm.commands.building.data import build_data
from pplvm.commands.options.build_parser import build_parser

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
def small_digits(tmp_path, monkeypatch):
    """scikit-learn's digits as anyone would save them: uint8, 0 to 16."""
    from sklearn.datasets import load_digits

    monkeypatch.chdir(tmp_path)
    np.save("mine.npy", load_digits().images.astype(np.uint8))
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(torch.float64)


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
    assert f"\ndata: {READ}, 2" in capsys.readouterr().out  # some 29 % ones
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


def data_of(*words, command="fit"):
    return build_data(build_parser().parse_args([command, *words]))


def test_labels_of_the_training_split_alone_become_unknown(small_digits):
    words = ["--condition=labels", "--known-labels=100", "--binarize=dynamic"]
    train = data_of(*words)
    known = train.conditions[0] >= 0
    assert int(known.sum()) == 100 and train.spec.conditions == ("labels",)
    assert torch.equal(train.conditions[0][known], data_of("--condition=labels").labels[known])
    assert train.conditions[0][known].bincount().tolist() == [10] * 10
    assert torch.equal(train.conditions[0], data_of(*words, "--binarize=none").conditions[0])
    assert not torch.equal(train.conditions[0], data_of(*words, "--seed=1").conditions[0])
    for split in ("valid", "test"):
        assert (data_of(*words, f"--split={split}").conditions[0] >= 0).all()
    assert data_of("--binarize=dynamic").conditions == ()


def test_a_mask_beside_labels(small_digits):
    number = np.arange(60)
    np.savez("mine.npz", x=GREY, y=number % 3, mask=GREY[:, 0] < 20)
    for split, size in (("train", 48), ("valid", 6), ("test", 6)):
        words = ["--data=mine.npz", "--key=x", "--condition=labels,mask", f"--split={split}"]
        x, y, mask = data_of(*words).batch(torch.arange(size))
        rows = [int((GREY == (each * 255).round().byte().numpy()).all((1, 2, 3)).argmax()) for each in x]
        assert torch.equal(mask, torch.from_numpy(GREY[rows, 0] < 20)) and y.tolist() == [row % 3 for row in rows]


def test_compare_leaves_the_data_to_each_program(small_digits):
    assert data_of("--condition=labels", "--program=vae", command="compare").spec.shape == (8, 8)


def test_settings_of_a_named_data_set_follow_its_name(capsys):
    spec = build_data(build_parser().parse_args(["fit", "--data=sprites@side=16@sizes=2,2,4,4@count=100"])).spec
    assert (spec.size, spec.shape, spec.levels) == (80, (16, 16), 2)
    for words, told in (
        (["--data=sprites@sides=16"], "data set sprites takes no 'sides', did you mean 'side'?"),
        (["--data=sprites@split=test"], "say split by --split"),
        (["--data=sprites@side=4"], "at least 16 pixels"),
        (["--data=sprites", "--levels=4"], "has levels of its own"),
    ):
        assert main(["fit", *words, "--steps=1"]) == 2
        assert told in capsys.readouterr().err
