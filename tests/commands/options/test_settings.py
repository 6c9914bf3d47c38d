"""Settings of several numbers are typed as a shell takes them, 200,200, and one number alone is a list of one."""

import argparse
import inspect
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pyro
import pytest
import torch

from pplvm.cli import main
from pplvm.commands.building.builders import build_loss, build_program
from pplvm.commands.building.training_builders import build_optimizers, build_schedulers
from pplvm.commands.comparison.compare_estimators import named_estimators
from pplvm.commands.options.build_parser import build_parser
from pplvm.commands.options.settings import _takes_several, split_settings
from pplvm.data.images import digits
from pplvm.objectives.objective import Loss
from pplvm.objectives.pathwise import Pathwise
from pplvm.programs.vae import VAE

SPECIAL = re.compile(r"[()\[\]{}*?!<>|&;$`#~\\]")
"""What bash or zsh would not hand on as it is typed."""


@pytest.fixture(scope="module")
def data():
    from pplvm.data.binarization import binarize

    return binarize(digits("train"), "static")


@pytest.mark.parametrize(
    "words, sizes",
    [(["latent_sizes=20,7"], [20, 7]), (["latent_sizes=20"], [20]), (["latent_sizes=(20,7)"], [20, 7])],
)
def test_sizes_are_typed_with_commas(words, sizes, data):
    net = build_program("sigmoid-belief-net", words, data, seed=0)
    trace = pyro.poutine.trace(net.guide).get_trace(torch.zeros(1, 64))
    latents = [site["value"].shape[-1] for name, site in trace.nodes.items() if name.startswith("z")]
    assert sorted(latents) == sorted(sizes)


def optimizers(rate=0.1):
    return {"all": torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=rate)}


@pytest.mark.parametrize(
    "words, rates",
    [
        ("multistep@milestones=2,4@gamma=0.1", [0.1, 0.1, 0.01, 0.01, 0.001]),
        ("multistep@milestones=2@gamma=0.5", [0.1, 0.1, 0.05, 0.05, 0.05]),
        ("multistep@milestones=(2,4)@gamma=0.1", [0.1, 0.1, 0.01, 0.01, 0.001]),
    ],
)
def test_milestones_are_typed_with_commas(words, rates):
    each = optimizers()
    (scheduler,) = build_schedulers(words, each, 10)
    found = []
    for _ in rates:
        found.append(each["all"].param_groups[0]["lr"])
        each["all"].step()
        scheduler.step()
    assert found == pytest.approx(rates)


@pytest.mark.parametrize("words", ["multistep", "multistep@milestones=soon", "multistep@milestones=0.5,2"])
def test_milestones_that_are_no_steps_are_refused_with_the_form(words):
    with pytest.raises(ValueError, match=r"--schedule multistep.*: milestones must be steps, as in multistep@milest"):
        build_schedulers(words, optimizers(), 10)


def test_an_optimizers_settings_take_commas():
    loss = Loss(Pathwise(), VAE(data_size=4, latent_size=2, hidden_sizes=(3,)))
    words = argparse.Namespace(
        optimizer="adam@betas=0.5,0.9", learning_rate=1e-3, guide_learning_rate=None, control_learning_rate=None
    )
    assert build_optimizers(words, loss, torch.zeros(2, 4))["model"].defaults["betas"] == (0.5, 0.9)


def test_a_number_after_a_comma_belongs_to_the_setting_before_it():
    text = "rloo,tvo@partition=0,0.5,1@num_particles=2,my:Own@a=(1, -2),vimco, pathwise"
    assert named_estimators(text) == [
        "rloo",
        "tvo@partition=0,0.5,1@num_particles=2",
        "my:Own@a=(1, -2)",
        "vimco",
        "pathwise",
    ]
    assert named_estimators("a@x=1,-2,.5,b") == ["a@x=1,-2,.5", "b"]
    with pytest.raises(ValueError, match="has an empty name"):
        named_estimators("rloo,,vimco")


@pytest.mark.parametrize("partition, betas", [("0,0.5,1", (0.0, 0.5, 1.0)), ("2", (0.0, 0.5, 1.0))])
def test_an_objectives_settings_take_commas(partition, betas, data):
    loss = build_loss(f"tvo@partition={partition}", 2, build_program("sigmoid-belief-net", [], data, 0), data)
    assert loss.objective.bound.betas == betas


def arguments(
    a: Sequence[int], b: "Sequence[int]", c: list[float], d=(1,), e: int = 3, f: tuple[int, ...] | int = (1,), g=None
):
    """Of many kinds."""


def test_one_number_is_a_list_of_one_where_a_list_is_wanted():
    takes = inspect.signature(arguments).parameters
    assert [_takes_several(parameter) for parameter in takes.values()] == 4 * [True] + 3 * [False]


def test_a_refusal_repeats_the_settings_as_they_are_typed(capsys):
    assert main(["check", "vae", "--set", "hidden_sizes=4,0.5"]) == 2
    assert "hidden_sizes must be integers, got 4,0.5\n" in capsys.readouterr().err
    assert main(["check", "vae", "--set", "hidden_sizes=4,5", "--set", "prior=3"]) == 2
    assert "cannot be made with hidden_sizes=4,5, prior=3:" in capsys.readouterr().err


def helps():
    subparsers = build_parser()._subparsers._group_actions[0].choices
    return {name: parser.format_help() for name, parser in subparsers.items()}


def test_help_shows_no_form_that_a_shell_would_not_take():
    for name, text in helps().items():
        assert not re.findall(r"\w=[(\[]", text), name
        for example in re.findall(r"^  (pplvm .*)$", text.partition("examples:")[2], re.MULTILINE):
            assert not SPECIAL.search(example), example


def test_no_file_shows_such_a_form():
    root = Path(__file__).parent.parent.parent.parent
    for path in [root / "README.md", *root.glob("docs/*.md"), *root.glob("*/README.md"), *root.rglob("pplvm/**/*.py")]:
        typed = re.findall(r"(?:--set|@\w+|--schedule \S+)[ =]?\w*=[(\[].*", path.read_text())
        assert not typed, f"{path}: {typed}"


def test_bash_hands_such_words_on_as_they_are():
    words = "--set latent_sizes=200,200 --schedule multistep@milestones=1000,2000@gamma=0.1"
    done = subprocess.run(["bash", "-c", f"printf '%s\\n' {words}"], capture_output=True, text=True, check=True)
    assert done.stdout.split() == words.split()
    assert split_settings(["latent_sizes=200,200"]) == {"latent_sizes": (200, 200)}
    broken = subprocess.run(["bash", "-c", "printf '%s\\n' --set latent_sizes=(200,200)"], capture_output=True)
    assert broken.returncode


@pytest.mark.parametrize(
    "name, setting, told",
    [
        ("vae", "latent_size=2.5", "program vae: latent_size must be an integer, got 2.5"),
        ("vae", "latent_size=True", "program vae: latent_size must be an integer, got True"),
        ("vae", "hidden_sizes=abc", "program vae: hidden_sizes must be integers, got abc"),
        ("vae", "hidden_sizes=5,1.5", "program vae: hidden_sizes must be integers, got 5,1.5"),
        (
            "vamp-vae",
            "data_examples=3",
            "program vamp-vae: data_examples is a tensor, which no setting can give: ",
        ),
        ("vae", "data_mean=0.5", "program vae: data_mean is a tensor, which no setting can give: leave it out, the "),
        ("hierarchical-vae", "clamp=True", "program hierarchical-vae: clamp must be a number or None, got True"),
        ("hierarchical-vae", "spectral_norm=3", "program hierarchical-vae: spectral_norm must be True or False, got 3"),
        (
            "hierarchical-vae",
            "spectral_norm=maybe",
            "program hierarchical-vae: spectral_norm must be True or False, got",
        ),
        ("delta-vae", "alpha=x", "program delta-vae: alpha must be a number, numbers or None, got x"),
        (
            "hyperspherical-vae",
            "concentration=x",
            "program hyperspherical-vae: concentration must be a number, got 'x'",
        ),
    ],
)
def test_a_setting_of_another_kind_is_refused_by_its_annotation(name, setting, told, data):
    with pytest.raises(ValueError, match=f"^{re.escape(told)}"):
        build_program(name, [setting], data, seed=0)


@pytest.mark.parametrize(
    "name, setting",
    [
        ("hierarchical-vae", "clamp=None"),
        ("hierarchical-vae", "clamp=4"),
        ("hierarchical-vae", "spectral_norm=True"),
        ("delta-vae", "alpha=0.5"),
        ("delta-vae", "alpha=0.2,0.4,0.6,0.8"),
        ("vae", "hidden_sizes=()"),
        ("vae", "hidden_sizes=[5, 6]"),
    ],
)
def test_settings_of_the_annotated_kinds_are_taken(name, setting, data):
    build_program(name, [setting], data, seed=0)
