"""Section 2 of issue 13: a run that someone else gives away, whose files promise too much or lack their parts."""

import io
import json
import os
import shutil
import time
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
import yaml

from pplvm.training import checkpoint_format
from tests.faults.conftest import snapshot
from tests.faults.test_directory import reseal

FOLDER = Path("run/checkpoints/00000004")
EVALUATE = ("evaluate", "run", "--ks=1,2", "--limit=3", "--annealed=0")


def configured(**changes):
    config = yaml.safe_load(Path("run/config.yaml").read_text())
    Path("run/config.yaml").write_text(yaml.safe_dump(config | changes))


def quickly_refused(run, *words):
    before, started = snapshot("."), time.process_time()
    code, lines = run(*words)
    assert code == 2 and len(lines) == 1 and len(lines[0]) < 2200 and "Traceback" not in lines[0], lines
    assert time.process_time() - started < 5 and snapshot(".") == before
    return lines[0]


LAYERS = "(" + "8," * 30_000 + ")"

LARGER = {
    "layers": ("vae", ["hidden_sizes=" + LAYERS]),
    "deep layers": ("sigmoid-belief-net", ["latent_sizes=" + LAYERS]),
    "a wide layer": ("vae", ["latent_size=10000000"]),
    "wider than memory": ("vae", ["latent_size=100000000000"]),
    "wider than words": ("vae", ["latent_size=10" + "0" * 30]),
    "components": ("mixture-of-gaussians", ["num_components=1000000000"]),
    "a matrix": ("ppca", ["latent_size=3000000"]),
    "less than none": ("vae", ["latent_size=-1"]),
    "no number": ("vae", ["hidden_sizes=[(8,),8]"]),
    "brackets": ("vae", ["hidden_sizes=" + "[" * 9_000]),
    "minus signs": ("vae", ["latent_size=" + "-" * 20_000 + "1"]),
    "many digits": ("vae", ["latent_size=" + "1" * 20_000]),
}


def test_sizes_are_held_against_the_weights_before_anything_is_built(fit, run):
    assert fit("--set=hidden_sizes=8", "--set=latent_size=2", "--keep=1", "--save-every=4")[0] == 0
    for program, settings in LARGER.values():
        configured(program=program, set=settings)
        for words in (EVALUATE, ("fit", "--resume=run", "--steps=5")):
            quickly_refused(run, *words)
    quickly_refused(run, "sample", "run")


def test_what_is_larger_is_told(fit, run):
    assert fit("--set=hidden_sizes=8", "--set=latent_size=2", "--keep=1")[0] == 0
    configured(set=["hidden_sizes=(8,8,8)", "latent_size=2"])
    told = quickly_refused(run, *EVALUATE)
    assert "the settings ask for a Linear with a weight of shape (8, 8), of which the weights hold none" in told
    configured(set=["hidden_sizes=8", "latent_size=2"])
    assert run(*EVALUATE)[0] == 0


CONFIGS = {
    "aliases": "a: &a [1]\nb: *a\n",
    "merged": "a0: &a0 {x: 1}\n" + "".join(f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}\n" for i in range(1, 30)),
    "long": "program: vae\n" * 10_000,
    "digits": f"steps: {'9' * 5_000}\n",
    "a day": "data: 2026-11-30\n",
    "no day": "data: 2026-13-30\n",
    "bytes": "data: !!binary aGk=\n",
    "objects": "data: !!python/object/apply:os.system ['touch ran']\n",
    "brackets": "data: " + "[" * 5_000 + "\n",
    "noise": "\x00\x01",
    "steps": f"steps: {10**30}\n",
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_configuration_that_is_none_is_refused(run, name):
    Path("run").mkdir()
    Path("run/config.yaml").write_text(CONFIGS[name])
    quickly_refused(run, "fit", "--resume=run")
    quickly_refused(run, *EVALUATE)
    assert not Path("ran").exists()


def test_a_configuration_that_never_ends_is_not_waited_for(run):
    Path("run").mkdir()
    os.mkfifo("run/config.yaml")
    quickly_refused(run, "fit", "--resume=run")
    quickly_refused(run, *EVALUATE)


@pytest.fixture
def stated(fit):
    """Change what the state of the run's only checkpoint holds; its manifest vouches for it."""
    assert fit("--keep=1", "--set=hidden_sizes=8", "--save-every=4", "--schedule=exponential@gamma=0.9")[0] == 0
    saved = FOLDER.joinpath("state.pt").read_bytes()

    def stated(change):
        whole = torch.load(io.BytesIO(saved), weights_only=True)
        change(whole)
        FOLDER.joinpath("state.pt").write_bytes(checkpoint_format._encoded_state(whole))
        reseal(FOLDER)

    return stated


def first(state, name):
    """The first parameter's state of the model's optimizer."""
    own = next(iter(state["parts"]["stepper"]["optimizers"].values()))
    return own["state"][0] if name == "state" else own["param_groups"][0]


STATES = {
    "no parts": (lambda s: s.pop("parts"), "it lacks 'parts'"),
    "no random state": (lambda s: s.pop("random"), "it lacks 'random'"),
    "no batches": (lambda s: s["parts"].pop("batches"), "it lacks 'batches'"),
    "no loss": (lambda s: s["parts"]["stepper"].pop("loss"), "it lacks 'loss'"),
    "a random state of another size": (lambda s: s["random"][0].update(torch=torch.zeros(7).byte()), "of torch is no"),
    "random states of no process": (lambda s: s.update(random=[]), "it holds no random state"),
    "random states of two": (lambda s: s.update(random=2 * s["random"]), "the random states of 2 processes"),
    "of no size": (lambda s: s["random"][0].update(python=torch.zeros(()).long()), "of python is no"),
    "of other numbers": (lambda s: s["random"][0].update(torch=torch.zeros(5056).byte()), "state.pt is not that"),
    "beyond its words": (lambda s: s["random"][0].update(numpy_rest=torch.tensor([9e3, 0, 0]).double()), "at 9000"),
    "less of numpy": (lambda s: s["random"][0].pop("numpy"), "random state of numpy is no"),
    "a list for a table": (lambda s: s.update(parts=[1, 2]), "state.pt is not that of such a run"),
    "another step": (lambda s: s.update(step=3), "it is of step 3"),
    "words for a step": (lambda s: s.update(step="four"), "state.pt is not that of such a run"),
    "a moment of another shape": (lambda s: first(s, "state").update(exp_avg=torch.zeros(3)), "exp_avg is no tensor"),
    "no moment": (lambda s: first(s, "state").pop("exp_avg"), "the optimizer's state holds step, exp_avg_sq, not"),
    "a rate that is none": (lambda s: first(s, "groups").update(lr="fast"), "state.pt is not that of such a run"),
    "no rate": (lambda s: first(s, "groups").pop("lr"), "it lacks 'lr'"),
    "no schedule": (lambda s: s["parts"]["stepper"].update(schedulers=[]), "state.pt is not that of such a run"),
    "a schedule of its own": (
        lambda s: s["parts"]["stepper"]["schedulers"][0].update(get_lr=1),
        "the schedule's state holds gamma",
    ),
    "a place beyond the epoch": (lambda s: s["parts"]["batches"].update(position=10**6), "batch 1000000 of"),
    "a place before it": (lambda s: s["parts"]["batches"].update(position=-1), "must be at least 0"),
    "a best that is none": (lambda s: s["parts"]["stopping"].update(best="low"), "state.pt is not that of such a run"),
    "records that are none": (lambda s: s["parts"]["since"].update(steps=torch.zeros(1, 3)), "have shape (1, 3)"),
}


def test_a_state_without_its_parts_is_refused_in_words(stated, run):
    for change, words in STATES.values():
        stated(change)
        told = quickly_refused(run, "fit", "--resume=run", "--steps=6")
        assert words in told and "run/checkpoints/00000004/state.pt" in told
    stated(lambda whole: None)
    assert run("fit", "--resume=run", "--steps=6")[0] == 0


def test_a_tensor_that_repeats_its_values_is_not_unpacked(stated, run):
    stated(lambda state: None)
    state = torch.load(FOLDER / "state.pt", weights_only=True)
    state["parts"]["since"]["steps"] = torch.zeros(1, 1, 2).expand(1, 10**12, 2)
    torch.save(state, FOLDER / "state.pt")
    reseal(FOLDER)
    assert "a tensor of shape (1, 1000000000000, 2) is larger than the file" in quickly_refused(
        run, "fit", "--resume=run", "--steps=6"
    )


MANIFESTS = {
    "no rates": lambda m: m.pop("rates"),
    "no rate": lambda m: m.update(rates={"model": 0, "guide": 1, "control": 1}),
    "words": lambda m: m.update(rates={"model": "fast"}),
    "no data": lambda m: m.update(data={"sha256": 3}),
    "no tensors": lambda m: m["architecture"]["tensors"].update({"program.log_scale": 5}),
    "a huge step": lambda m: m.update(step=10**400),
    "nothing": lambda m: [m.pop(name) for name in set(m) - {"format", "step", "files", "sha256"}],
}


def test_a_manifest_that_is_none_is_refused_in_words(stated, run):
    path = FOLDER / "manifest.json"
    saved = path.read_text()
    for change in MANIFESTS.values():
        manifest = json.loads(saved)
        change(manifest)
        path.write_text(json.dumps(manifest))
        reseal(FOLDER)
        quickly_refused(run, "fit", "--resume=run", "--steps=6")


RECORDS = {
    "words": '{"step": 1, "bound": "high"}\n{"step": 2}\n',
    "brackets": "[" * 100_000 + '\n{"step": 2}\n',
    "digits": f'{{"step": 1, "bound": {"9" * 4000}}}\n{{"step": 2}}\n',
}


@pytest.mark.parametrize("name", RECORDS)
def test_records_that_are_none_are_refused_before_anything_is_learned(fit, run, name):
    assert fit()[0] == 0
    Path("run/metrics.jsonl").write_text(RECORDS[name])
    assert "run/metrics.jsonl line 1 is no record" in quickly_refused(run, "fit", "--resume=run", "--steps=6")


DATA = {
    "one row": lambda: np.save("a.npy", np.arange(60, dtype=np.uint8)),
    "a fifo": lambda: os.mkfifo("a.npy"),
    "a device": lambda: Path("a.npy").symlink_to("/dev/zero"),
    "a loop": lambda: Path("a.npy").symlink_to("a.npy"),
}


@pytest.mark.parametrize("name", DATA)
def test_data_that_are_none_get_a_sentence_from_the_command(run, name):
    DATA[name]()
    quickly_refused(run, "check", "vae", "--data=a.npy")


def test_any_bytes_in_the_place_of_a_checkpoint_get_a_sentence(run):
    torch.save({"w": torch.ones(9)}, "mine.pt")
    whole, draw = Path("mine.pt").read_bytes(), np.random.default_rng(0)
    for _ in range(20):
        content = np.frombuffer(whole, np.uint8).copy()
        content[draw.integers(0, len(content), 9)] = draw.integers(0, 256, 9)
        Path("mine.pt").write_bytes(content.tobytes())
        quickly_refused(run, "compare", "--checkpoint=mine.pt", "--estimators=rloo", "--output=compared")


def test_figures_are_drawn_without_a_style_that_lies_about(fit, run):
    """As if a `matplotlibrc` beside the run had been read: text set by LaTeX is a program that is started."""
    assert fit("--keep=1")[0] == 0
    with matplotlib.rc_context({"text.usetex": True}):
        code, lines = run("sample", "run", "--count=4")
    assert code == 0 and not any("left out" in line for line in lines), lines
    assert Path("run/samples/samples.png").exists()


def test_runs_that_are_compared_do_not_replace_each_other_nor_what_is_there(fit, run):
    assert fit("--keep=1", "--output=a/run")[0] == 0
    shutil.copytree("a", "b", symlinks=True)
    told = quickly_refused(run, "evaluate", "a/run", "b/run", "--output=judged")
    assert "two runs are called 'run': rename one" in told
    Path("b/run").rename("other")
    Path("judged").mkdir()
    for words in ([], ["--overwrite"]):
        Path("judged/rate-distortion.png").symlink_to("../mine.png")
        told = quickly_refused(run, "evaluate", "a/run", "other", "--output=judged", *words)
        assert "judged/rate-distortion.png exists" in told
        Path("judged/rate-distortion.png").unlink()
    Path("judged/rate-distortion.png").write_text("mine")
    assert "replace it by --overwrite" in quickly_refused(run, "evaluate", "a/run", "other", "--output=judged")
