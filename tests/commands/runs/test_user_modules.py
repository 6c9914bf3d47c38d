"""Programs of one's own, named by their file: the one in it is found, and recorded by its import path."""

import importlib
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from pplvm.cli import main
from pplvm.commands.runs.user_modules import import_path_of
from pplvm.data.import_path import FINDER

HEAD = """
    import pyro, torch
    import pyro.distributions as dist
    from pplvm import VAE, SigmoidBeliefNet
"""

STORY = """
    class {name}(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.decoder = torch.nn.Linear(9, 2), torch.nn.Linear(2, 9)
        def model(self, x):
            with pyro.plate("batch", len(x)):
                z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
                pyro.sample("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x)
        def guide(self, x):
            with pyro.plate("batch", len(x)):
                pyro.sample("z", dist.Normal(self.encoder(x), 1.0).to_event(1))
"""

NOT_ONE = """
    class _Private(torch.nn.Module):
        def model(self, x): ...
        def guide(self, x): ...
    class Half(torch.nn.Module):
        def model(self, x): ...
    class Neither:
        def model(self, x): ...
        def guide(self, x): ...
"""

OBJECTIVE = """
    from pplvm.objectives.presets import rloo
    from pplvm.objectives.pathwise import Pathwise
    class Mine(Pathwise):
        pass
"""


def write(path, *parts):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(textwrap.dedent(part) for part in (HEAD, *parts)))
    importlib.invalidate_caches()


@pytest.fixture(autouse=True)
def a_users_folder(tmp_path, monkeypatch):
    """A folder with data in it; what is imported from it is forgotten afterwards."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    torch.set_default_dtype(torch.float32)
    np.save("nine.npy", np.eye(9, dtype=np.uint8).repeat(4, 0))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("mine", "folder", "family", "both", "needs"):
            del sys.modules[name]
    FINDER.folders.clear()
    torch.set_default_dtype(torch.float64)


WAYS = ("mine.py", "mine", "./mine.py", "mine.py:Story", "mine:Story")


@pytest.mark.parametrize("way", WAYS)
def test_a_file_leads_to_its_one_program(way, capsys):
    write("mine.py", NOT_ONE, STORY.format(name="Story"))
    assert main(["check", way, "--data=nine.npy"]) == 0
    assert capsys.readouterr().out.startswith("program mine:Story on ")
    assert main(["check", str(Path("mine.py").resolve()), "--data=nine.npy"]) == 0


@pytest.mark.parametrize("way", ["mine.py", "mine"])
def test_every_verb_takes_it_and_what_is_recorded_is_an_import_path(way):
    write("mine.py", STORY.format(name="Story"))
    few = [f"--program={way}", "--data=nine.npy", "--steps=1", "--batch-size=9"]
    assert main(["fit", *few, "--output=run"]) == 0
    assert yaml.safe_load(Path("run/config.yaml").read_text())["program"] == "mine:Story"
    words = ["--estimators=pathwise", "--replicates=2", "--minibatches=1", "--sweep=", "--output=compared"]
    assert main(["compare", *few, *words]) == 0
    assert yaml.safe_load(Path("compared/config.yaml").read_text())["program"] == "mine:Story"


def test_an_instance_is_one_too_and_what_is_imported_is_not(capsys):
    write("mine.py", "story = VAE(data_size=9)\nstories = [story]\n")
    assert import_path_of("mine.py", "program") == "mine:story"
    assert main(["check", "mine.py", "--data=nine.npy"]) == 0


def test_a_guide_that_is_made_in_init_is_one(capsys):
    made = """
        from pyro.infer.autoguide import AutoDelta
        class Story(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.decoder, self.guide = torch.nn.Linear(2, 9), AutoDelta(self.model)
            def model(self, x):
                with pyro.plate("batch", len(x)):
                    z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
                    pyro.sample("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x)
    """
    write("mine.py", NOT_ONE, made)
    assert import_path_of("mine.py", "program") == "mine:Story"
    assert main(["check", "mine.py", "--data=nine.npy"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("guide.")]
    assert lines and all(line[-1] == "guide" for line in lines)


def test_packages_and_folders():
    write("folder/mine.py", STORY.format(name="Story"))
    write("family/__init__.py", STORY.format(name="Elder"))
    write("family/younger.py", STORY.format(name="Younger"))
    assert import_path_of("folder/mine.py", "program") == "folder.mine:Story"
    assert import_path_of("family", "program") == import_path_of("family/__init__.py", "program") == "family:Elder"
    assert import_path_of("family/younger.py", "program") == "family.younger:Younger"


def test_objectives_and_their_settings():
    write("mine.py", OBJECTIVE)
    assert import_path_of("mine.py@num_particles=3", "objective") == "mine:Mine@num_particles=3"
    assert import_path_of("mine@num_particles=3", "objective") == "mine:Mine@num_particles=3"
    assert import_path_of("rloo@num_particles=3", "objective") == "rloo@num_particles=3"
    assert main(["verify", "mine.py"]) == 0


def test_data_and_optimizers_of_a_file_are_named_with_it():
    rows = "rows = torch.utils.data.TensorDataset(torch.eye(9).repeat(4, 1))\nSlow = torch.optim.SGD\n"
    write("mine.py", STORY.format(name="Story"), rows)
    words = ["--program=mine.py", "--data=mine.py:rows", "--optimizer=mine.py:Slow@momentum=0.5", "--steps=1"]
    assert main(["fit", *words, "--binarize=none", "--output=run"]) == 0
    config = yaml.safe_load(Path("run/config.yaml").read_text())
    assert (config["data"], config["optimizer"]) == ("mine:rows", "mine:Slow@momentum=0.5")


def test_a_name_of_the_catalog_means_what_it_did():
    write("vae.py", STORY.format(name="Story"))
    assert import_path_of("vae", "program") == "vae"
    with pytest.raises(ValueError, match="vae.py has no objective"):
        import_path_of("vae.py", "objective")
    del sys.modules["vae"]


def refused(capsys, *words):
    assert main(["check", *words, "--data=nine.npy"]) == 2
    told = capsys.readouterr().err
    assert len(told.splitlines()) == 1
    return told


def test_several_or_none_are_told(capsys):
    write("both.py", STORY.format(name="One"), STORY.format(name="Two"))
    write("mine.py", NOT_ONE)
    assert "both.py has 2 programs, One, Two: name one, as both.py:Two" in refused(capsys, "both.py")
    told = refused(capsys, "mine.py")
    assert "mine.py has no program, a class that is an nn.Module with methods model(x) and guide(x)" in told


def test_a_file_that_is_not_there_or_cannot_be_imported_is_told(capsys, tmp_path):
    write("mine.py", STORY.format(name="Story"))
    write("colorsys.py", STORY.format(name="Story"))
    write("my-story.py", STORY.format(name="Story"))
    write(tmp_path / "elsewhere.py", STORY.format(name="Story"))
    assert "there is no file mien.py here" in (told := refused(capsys, "mien.py")) and "mean mine.py?" in told
    assert "unknown program 'mien', did you mean 'mine.py'?" in refused(capsys, "mien")
    assert f"is not below the working directory: run pplvm in {tmp_path}" in refused(capsys, "../elsewhere.py")
    assert "my-story.py cannot be imported under that name" in refused(capsys, "my-story.py")
    assert "comes before it: rename yours" in refused(capsys, "colorsys.py")


def test_a_fault_in_the_file_is_its_own(capsys):
    write("needs.py", "import a_module_that_is_not_there\n")
    assert main(["check", "needs.py"]) == 1
    assert "No module named 'a_module_that_is_not_there'" in capsys.readouterr().err
