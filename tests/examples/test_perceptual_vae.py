"""The example of a perceptual penalty, with few steps."""

import pytest
import torch

from examples import perceptual_vae


@pytest.fixture(autouse=True)
def single_precision(known_state):
    """The example as a user runs it."""
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(torch.float64)


def test_penalties_change_the_reconstructions_and_the_likelihoods_are_the_programs_own(capsys, tmp_path):
    picture = tmp_path / "runs" / "reconstructions.png"
    found = perceptual_vae.main(30, weight=100.0, tested=30, k=10, picture=str(picture))
    assert list(found) == ["accuracy", "none", "trained features", "random features"]
    assert all(share > 0.2 for share in found["accuracy"])
    for name in ("none", "trained features", "random features"):
        likelihood, apart, kept = found[name]
        assert 15 < likelihood < 40 and apart > 0 and 0 <= kept <= 1
    assert found["trained features"][1] < found["none"][1]
    assert "held-out digits: classifier" in capsys.readouterr().out
    assert picture.stat().st_size > 1000
