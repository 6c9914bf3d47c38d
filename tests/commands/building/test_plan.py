"""What a plan of training refuses for the sake of its parts."""

import pytest
import torch

from pplvm.cli import main


@pytest.fixture(autouse=True)
def a_users_folder(known_state, tmp_path, monkeypatch):
    torch.set_default_dtype(torch.float32)
    monkeypatch.chdir(tmp_path)
    yield
    torch.set_default_dtype(torch.float64)


@pytest.mark.parametrize("option", ["--aggressive", "--guide-learning-rate=0.01"])
def test_a_guide_without_parameters_of_its_own_has_no_training_of_its_own(option, tmp_path, capsys):
    """The encoder of a VampPrior is the model's too."""
    words = ["--program=vamp-vae", "--set=num_components=3", "--steps=2", "--output=made", option]
    assert main(["fit", *words]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert "this one has no parameter that the model does not use too, as under a prior made of its encoder" in told
    assert option.split("=")[0] in told and not (tmp_path / "made").exists()
