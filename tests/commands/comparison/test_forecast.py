"""How long a comparison takes is told beforehand, with what it is spent on and the options that shorten it."""

import re
import sys

import pytest
import torch

from pplvm.cli import main
from pplvm.commands.comparison.forecast import forecast_sentence
from pplvm.estimators.comparison import Comparison
from pplvm.estimators.forecast import Forecast
from pplvm.objectives.objective import Loss
from pplvm.objectives.pathwise import Pathwise
from pplvm.programs.vae import VAE


def forecast(seconds, drawn):
    return Forecast(seconds, 80, 4, 2, drawn, {"a": 0.05, "b": 0.1}, {"a": 4, "b": 4})


def test_a_short_comparison_is_not_foretold():
    assert forecast_sentence(forecast(29.0, [("Pathwise", 250)]), {}, 30) == ""


def test_a_long_one_is_with_options_that_matter():
    assert forecast_sentence(forecast(420.0, [("Pathwise", 250), ("tables", 40)]), {}, 30) == (
        "about 7 minutes: 80 replicates x 4 minibatches x 2 estimators, 250 reference draws of Pathwise x 4 "
        "minibatches; lower --replicates, --reference-draws, --minibatches for less"
    )
    assert forecast_sentence(forecast(42.0, [("tables", 40)]), {}, 30) == (
        "about 40 seconds: 80 replicates x 4 minibatches x 2 estimators; lower --replicates, --minibatches for less"
    )


def test_draws_for_several_targets_are_all_told():
    told = forecast_sentence(forecast(420.0, [("Pathwise", 250)] * 2), {}, 30)
    assert "estimators, 2 targets x 250 reference draws of Pathwise x 4 minibatches; lower" in told


def test_the_sweep_counts_by_its_particles():
    swept = {"a": {1: None, 4: None, 16: None}, "left out": {4: None}}
    told = forecast_sentence(forecast(20.0, []), swept, 40)  # 40 x 21 / 4 x 0.05 s more
    assert told.startswith("about 30 seconds: ") and told.endswith("--minibatches, --sweep-replicates for less")
    assert "the sweep over K" in told


@pytest.mark.parametrize("draws", [12, 40])
def test_the_bar_counts_the_reference_draws_that_are_drawn(draws):
    program, x = VAE(data_size=8, latent_size=2, hidden_sizes=(5,)), torch.rand(4, 8).round()
    comparison = Comparison({"a": Loss(Pathwise(), program)}, [x, x], replicates=3, reference_draws=draws)
    seen = {}
    for what, steps, total in comparison.phases():
        seen[what] = list(steps), total
    assert seen["reference draws"] == (list(range(1, 2 * draws + 1)), 2 * draws)
    assert seen["preparation"][0] == [1] and seen["replicates"][1] == 6
    assert comparison.forecast.reference_draws == [("Pathwise", draws)] and comparison.forecast.seconds > 0
    assert comparison.result().reference.item().startswith(f"Pathwise, {draws} draws (s.e. ")


def test_fewer_reference_draws_let_a_larger_bias_escape():
    program, x = VAE(data_size=8, latent_size=2, hidden_sizes=(5,)), torch.rand(4, 8).round()
    seen = []
    for draws in (5, 500):
        comparison = Comparison({"a": Loss(Pathwise(), program)}, [x], replicates=60, reference_draws=draws)
        list(comparison.rounds())
        seen.append(float(comparison.result().detectable_anywhere[0]))
    assert seen[0] > 1.5 * seen[1]


def test_references_are_the_same_whatever_is_drawn_between_their_draws():
    program, x = VAE(data_size=8, latent_size=2, hidden_sizes=(5,)), torch.rand(4, 8).round()
    found = []
    for disturb in (False, True):
        comparison = Comparison({"a": Loss(Pathwise(), program)}, [x, x], replicates=3, reference_draws=9)
        before = torch.get_rng_state()
        for _, steps, _ in comparison.phases():
            for _ in steps:
                torch.rand(3) if disturb else None
        assert disturb or torch.equal(before, torch.get_rng_state())
        (target,) = comparison.references[1]
        found.append([comparison.references[number][target].gradient for number in (0, 1)])
    assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][1], found[1][1])
    assert not torch.equal(found[0][0], found[0][1])  # each minibatch has a stream of its own


def test_one_reference_draw_is_refused():
    program, x = VAE(data_size=8, latent_size=2, hidden_sizes=(5,)), torch.rand(4, 8).round()
    with pytest.raises(ValueError, match="reference_draws must be at least 2, to know how far off they are; got 1"):
        Comparison({"a": Loss(Pathwise(), program)}, [x], reference_draws=1)


def test_the_command_shows_them_and_takes_their_number(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pplvm.commands.comparison.comparison_files.save_figures", lambda *section: [])
    monkeypatch.setattr("pplvm.commands.comparison.forecast.WORTH_TELLING", 0.0)
    monkeypatch.setattr("pplvm.distributed.progress.SECONDS", 0.0)  # else a file gets no line from what is done in ten
    monkeypatch.setattr(sys, "argv", ["pplvm", "compare"])
    torch.set_default_dtype(torch.float32)
    words = ["--program=vae", "--estimators=pathwise", "--steps=0", "--replicates=4", "--minibatches=2", "--sweep="]
    try:
        assert main(["compare", *words, "--batch-size=10", "--reference-draws=7", "--output=run"]) == 0
    finally:
        torch.set_default_dtype(torch.float64)
    told = capsys.readouterr().err
    assert re.search(r"^reference draws: \d+ of 14", told, re.MULTILINE)
    assert (
        "x 1 estimators, 7 reference draws of Pathwise x 2 minibatches; lower --replicates, --reference-draws" in told
    )
