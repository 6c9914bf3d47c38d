"""Programs held against data of their own kind: counts, times, fractions, token ids, and what they make of x."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pplvm.cli import main
from pplvm.commands.building.builders import known_to
from pplvm.commands.building.program_checks import check_data
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


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float64])
def test_bytes_are_a_way_for_classes_too(dtype, tmp_path, monkeypatch, capsys, single_precision):
    monkeypatch.chdir(tmp_path)
    np.save("mine.npy", (COUNTS % 9).astype(dtype))
    words = ["--data=mine.npy", "--values=integer", "--batch-size=4"]
    assert main(["check", f"{__name__}:OfNineClasses", *words]) == 0
    assert "integers from 0 to 8; binarization: none" in capsys.readouterr().out
    few = ["--steps=2", "--output=run", "--compile=off"]
    assert main(["fit", f"--program={__name__}:OfNineClasses", *words, *few]) == 0


class OfNineClasses(Story):
    def __init__(self):
        super().__init__(lambda mean, x: dist.Categorical(logits=mean.unsqueeze(-1) * torch.ones(9)))


def test_large_values_are_named_where_they_are_the_cause(tmp_path, monkeypatch, capsys, single_precision):
    monkeypatch.chdir(tmp_path)
    np.save("mine.npy", np.arange(960).reshape(60, 4, 4) % 256 * 3)
    assert main(["fit", "--data=mine.npy", "--output=run"]) == 2
    told = "; its values run from 0 to 765: scale them, or, if they are grey images, give their --levels"
    assert told in capsys.readouterr().err
    assert main(["fit", "--data=mine.npy", "--output=run", "--set=data_size=5"]) == 2
    assert "its values run" not in capsys.readouterr().err


def test_a_program_that_takes_examples_gets_data_of_the_whole_split():
    rows = torch.arange(2400).reshape(1200, 2) / 2399
    data = from_rows(rows.numpy(), "rows", "all", values="real")
    found = known_to("tests.commands.building.test_builders:TakesExamples", data)
    assert found["data_examples"].shape == (500, 2) and set(found) == {"data_examples"}
    assert found["data_examples"][0, 0] < 0.01 and found["data_examples"][-1, 0] > 0.99


class TakesExamples(nn.Module):
    def __init__(self, data_examples):
        super().__init__()
        self.pseudo_inputs = nn.Parameter(data_examples)
