"""Who forgets --data is told that, and not to change the program."""

import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from pplvm.cli import main

CODE = """
    import pyro, torch
    import pyro.distributions as dist

    class Story(torch.nn.Module):
        SIZE = 9

        def __init__(self):
            super().__init__()
            self.encoder, self.decoder = torch.nn.Linear(self.SIZE, 2), torch.nn.Linear(2, self.SIZE)

        def flat(self, x):
            return x.flatten(1)

        def model(self, x):
            x = self.flat(x)
            with pyro.plate("batch", len(x)):
                z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
                pyro.sample("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x)

        def guide(self, x):
            x = self.flat(x)
            with pyro.plate("batch", len(x)):
                pyro.sample("z", dist.Normal(self.encoder(x), 1.0).to_event(1))

    class Views(Story):
        def flat(self, x):
            return x.view(len(x), 9)

    class Asserts(Story):
        def flat(self, x):
            assert x.shape[1:] == (9,)
            return x

    class Counts(Story):
        SIZE = 64

        def model(self, x):
            x = self.flat(x)
            with pyro.plate("batch", len(x)):
                z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
                rate = self.decoder(z).exp() + 1
                pyro.sample("x", dist.Uniform(rate, 2 * rate).to_event(1), obs=x)

    class Fits(Story):
        SIZE = 64

    class Negative(Fits):
        def guide(self, x):
            with pyro.plate("batch", len(x)):
                pyro.sample("z", dist.Normal(self.encoder(self.flat(x)), -1.0).to_event(1))

    class Broken(Fits):
        def guide(self, x):
            with pyro.plate("batch", len(x)):
                pyro.sample("zz", dist.Normal(self.encoder(self.flat(x)), 1.0).to_event(1))
"""

FORGOTTEN = "the data are pplvm's own digits, 8x8 (--data was not given): name yours with --data"

VERBS = {
    "check": lambda name: ["check", name],
    "fit": lambda name: ["fit", f"--program={name}", "--steps=1", "--output=run"],
    "compare": lambda name: ["compare", f"--program={name}", "--output=run"],
}


@pytest.fixture(autouse=True)
def a_users_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.set_default_dtype(torch.float32)
    Path("forgetful.py").write_text(textwrap.dedent(CODE))
    np.save("nine.npy", np.eye(9, dtype=np.uint8).repeat(4, 0))
    yield
    torch.set_default_dtype(torch.float64)
    sys.modules.pop("forgetful", None)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("program", ["Story", "Views", "Asserts"])
def test_data_that_nobody_chose_are_told_first(verb, program, capsys):
    assert main(VERBS[verb](f"forgetful:{program}")) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"pplvm {verb}: {FORGOTTEN}; on these: ") and len(told.splitlines()) == 1
    assert not Path("run").exists()


@pytest.mark.parametrize("verb", VERBS)
def test_data_that_were_chosen_are_not(verb, capsys):
    assert main([*VERBS[verb]("forgetful:Story"), "--data=digits"]) == 2
    told = capsys.readouterr().err
    assert FORGOTTEN not in told and "cannot run on data set 'digits', whose data have shape (8, 8)" in told


def test_values_that_no_site_can_take_are_told_so_too(capsys):
    assert main(["check", "forgetful:Counts"]) == 2
    captured = capsys.readouterr()
    assert f"violation: {FORGOTTEN}; on these: data set 'digits' has the values 0 and 1, but site 'x'" in captured.out
    assert "Interval(lower_bound=" in captured.out and "tensor([" not in captured.out


def test_a_fault_of_the_program_is_not_blamed_on_the_data(capsys):
    assert main(["check", "forgetful:Broken"]) == 2
    captured = capsys.readouterr()
    assert "violation: " in captured.out and FORGOTTEN not in captured.out + captured.err


@pytest.mark.parametrize("verb", VERBS)
def test_nor_is_a_negative_scale_which_no_data_would_mend(verb, capsys):
    assert main(VERBS[verb]("forgetful:Negative")) == 2
    captured = capsys.readouterr()
    assert "the scale of guide site 'z' is -1" in captured.err and FORGOTTEN not in captured.out + captured.err


def test_a_configuration_records_the_data_and_counts_as_given(capsys):
    assert main(["fit", "--program=forgetful:Fits", "--steps=1", "--output=run"]) == 0
    config = yaml.safe_load(Path("run/config.yaml").read_text())
    assert config["data"] == "digits" and "data_given" not in config
    words = ["--config=run/config.yaml", "--program=forgetful:Story", "--output=other"]
    assert main(["fit", *words]) == 2
    assert FORGOTTEN not in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["check", "fit"])
def test_a_decoder_of_another_size_is_told_so_too(verb, capsys):
    Path("wide.py").write_text(
        textwrap.dedent(CODE).replace("torch.nn.Linear(2, self.SIZE)", "torch.nn.Linear(2, 784)")
    )
    Path("wide.py").write_text(Path("wide.py").read_text().replace("SIZE = 9", "SIZE = 64"))
    assert main([verb, *(["--program"] if verb == "fit" else []), "wide:Story"]) == 2
    shown = capsys.readouterr()
    assert "name yours with --data; on these: model site 'x' gives its value no density" in shown.out + shown.err
