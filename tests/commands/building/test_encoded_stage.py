"""Stage two of codes on the command line: on codes computed once it is the same run, resumed bit by bit, and judged."""

import contextlib
import importlib
import io
import json
import os
import sys
import textwrap
from pathlib import Path

import pytest
import torch
import yaml

from pplvm.cli import main
from pplvm.commands.building import encoded_stage, plan
from pplvm.training.checkpoints import read_latest
from tests.commands.test_fit import differing, stop_at

PROGRAMS = """
    from pplvm.programs.pixelcnn_prior import ClassConditionalPixelCNNPrior, PixelCNNPrior
    from pplvm.programs.vq_vae import VQVAE, vq_vae

    def story(data_size, data_examples, num_codes=3, prior="uniform", num_classes=None):
        '''A small codebook of moving averages that restarts, and a PixelCNN with dropout.'''
        whole = vq_vae(data_size, (1, 2), num_codes, 3, (8,), codebook="moving-average", restart_below=0.3)
        if prior == "uniform":
            return whole
        small = {"channels": 4, "kernel_sizes": (3, 3), "dropout": 0.2}
        made = PixelCNNPrior(num_codes, (1, 2), **small) if num_classes is None else None
        made = made or ClassConditionalPixelCNNPrior(num_codes, (1, 2), num_classes, **small)
        return VQVAE(whole.encoder, whole.codebook, whole.decoder, whole.likelihood, made, whole.posterior)
"""

ONCE = "codes and distortions of 1,497 data computed once, 0.0 MiB"
TOY = "--set=num_codes=5"


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """A first stage of five codes: the folder with its run, and the program's name."""
    folder = tmp_path_factory.mktemp("codes")
    before, path = os.getcwd(), list(sys.path)
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    name = f"stories_{os.getpid()}"
    Path(f"{name}.py").write_text(textwrap.dedent(PROGRAMS))
    importlib.invalidate_caches()
    torch.set_default_dtype(torch.float32)
    assert fit(f"--program={name}:story", TOY, "--steps=24", "--output=first") == 0
    yield f"{name}:story"
    sys.modules.pop(name, None)
    torch.set_default_dtype(torch.float64)
    os.chdir(before)
    sys.path[:] = path


@pytest.fixture(autouse=True)
def single_precision(known_state, story):
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(torch.float64)


def fit(*words):
    typed = ["--batch-size=50", "--log-every=4", "--validate-every=10", "--save-every=10", "--compile=off"]
    return main(["fit", *typed, *words])


SECOND = ("--average=0.9", "--steps=21", "--initial=first", "--train=prior", "--set=prior=pixelcnn")


def told_by(*words):
    with contextlib.redirect_stderr(io.StringIO()) as told:
        assert fit(*words) == 0
    return told.getvalue()


@pytest.fixture(scope="module")
def second(story):
    Path("told.txt").write_text(told_by(f"--program={story}", *SECOND, "--output=second"))
    return Path("second")


def records(run):
    return [json.loads(line) for line in (Path(run) / "metrics.jsonl").read_text().splitlines()]


def test_the_run_is_that_which_encodes_in_every_step(second, story, monkeypatch):
    assert ONCE in Path("told.txt").read_text()
    monkeypatch.setattr(plan, "encoded_stage", lambda arguments, program, data, valid, x: (program, data, valid))
    assert ONCE not in told_by(f"--program={story}", *SECOND, "--output=uncached")
    here, there = records(second), records("uncached")
    assert len(here) == len(there) > 5 and {"bound", "penalty_commitment"} <= here[0].keys()
    for one, other in zip(here, there, strict=True):
        assert one == pytest.approx(other, rel=1e-5, abs=1e-6)
    manifests = [json.loads((Path(run) / "manifest.json").read_text()) for run in ("second", "uncached")]
    assert manifests[0]["run"] == manifests[1]["run"] and manifests[0]["architecture"] == manifests[1]["architecture"]
    one, other = (read_latest(Path(run)).weights for run in ("second", "uncached"))
    assert one.keys() == other.keys()
    assert all(torch.allclose(one[name].float(), other[name].float(), atol=1e-5) for name in one)


def test_the_rest_is_that_of_stage_one_and_its_settings_hold(second):
    there, here = read_latest(Path("first")).weights, read_latest(second).weights
    kept = [name for name in here if not name.startswith("prior")]
    assert "codebook.sums" in kept and all(torch.equal(here[name], there[name]) for name in kept)
    assert len(here["codebook.shares"]) == 5
    assert not any("code_perplexity" in record for record in records("second"))  # that of stage one says nothing new
    assert yaml.safe_load((second / "config.yaml").read_text())["set"] == ["num_codes=5", "prior=pixelcnn"]
    assert "--initial first: its settings hold here too, --set num_codes=5\n" in Path("told.txt").read_text()


def test_either_stage_resumes_bit_by_bit(second, story, monkeypatch):
    trust = story.partition(":")[0]
    for whole, words in (("second", SECOND), ("first", (TOY, "--steps=24"))):
        stop_at(7, monkeypatch)
        assert fit(f"--program={story}", *words, "--overwrite", "--output=stopped") == 130
        monkeypatch.undo()
        assert main(["fit", "--resume=stopped", "--trust", trust]) == 0
        assert differing(whole, "stopped") == []


def test_it_is_judged_with_bits_apart(second, story, capsys):
    words = ["--limit=12", "--ks=1,20", "--information=0", "--trust", story.partition(":")[0]]
    assert main(["evaluate", "first", "second", *words, "--output=judged"]) == 0
    told = capsys.readouterr().out
    found = json.loads(Path("judged/second/evaluation.json").read_text())["figures"]
    figures = {figure["name"]: figure for section in found.values() for figure in section}
    assert "log p(x), exact" in figures and figures["log p(x), k = 1"]["note"].startswith("the elbo of the proposal")
    both, exact = figures["codes and data, own bound"]["value"], figures["log p(x), exact"]["value"]
    assert both == pytest.approx(-figures["elbo"]["value"], rel=1e-6) and -exact < both
    assert both == pytest.approx(figures["codes"]["value"] + figures["data given codes"]["value"], rel=1e-6)
    assert "codes and data, own bound, bits/dim" in told and "codes and data, own bound, bits/dim" in found_page()


def found_page():
    return Path("judged/second/report.html").read_text()


def test_what_keeps_codes_from_being_constants_is_told(second, story, monkeypatch):
    words = [f"--program={story}", *SECOND, "--steps=2", "--overwrite", "--output=third"]
    assert "in every step: dynamic binarization draws other data in each epoch" in told_by(*words, "--binarize=dynamic")
    monkeypatch.setattr(encoded_stage, "MOST_BYTES", 1000)
    assert "in every step: those of 1,497 data take 0.0 GiB, more than" in told_by(*words)


def test_labels_reach_the_prior(second, story):
    words = [f"--program={story}", *SECOND, "--steps=2", "--overwrite", "--output=by-class", "--condition=labels"]
    assert ONCE in told_by(*words) and "prior.embedding.weight" in read_latest(Path("by-class")).weights


REFUSED = {
    "part 'prior' of VQVAE has no parameter that learns": ["--train=prior", "--initial=first"],
    "VQVAE has no part 'priro', did you mean 'prior'?": ["--train=priro", "--initial=first"],
    "with the sizes of that run, or give it another name; of --set, num_codes is 5 there and 6 here": [
        "--train=prior",
        "--initial=first",
        "--set=num_codes=6",
        "--set=prior=pixelcnn",
    ],
    "'encoder.0.1.layers.0.weight' has shape (8, 64) in the weights and (4, 64) in VQVAE": [
        "--program=vq-vae",
        "--set=hidden_sizes=4",
        "--train=encoder",
        "--initial=first",
    ],
    "--initial first has no weights of 'encoder.layers.0.layer.weight', and --train prior would freeze it": [
        "--program=vq-vae",
        "--set=channels=8,8",
        "--set=num_codes=5",
        "--set=code_size=3",
        "--train=prior",
        "--set=codebook=moving-average",
        "--set=prior=pixelcnn",
        "--initial=first",
    ],
    "num_codes": ["--set=num_codes=1"],
    "VQVAE.codebook has 1,400 codes, more than the 1,297 data of data set 'digits'": ["--set=num_codes=1400"],
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_makes_no_stage_is_refused_in_one_sentence(story, words, capsys):
    typed = REFUSED[words]
    program = [] if any(word.startswith("--program") for word in typed) else [f"--program={story}"]
    assert fit(*program, "--output=refused", *typed) == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert words in line and not Path("refused").exists()
