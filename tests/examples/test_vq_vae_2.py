"""The example of VQ-VAE-2, with few steps."""

import pytest
import torch

from examples import vq_vae_2


@pytest.fixture(autouse=True)
def single_precision(known_state):
    """The example as a user runs it."""
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(torch.float64)


@pytest.mark.slow
def test_samples_are_drawn_accepted_and_ranked(capsys, tmp_path):
    picture = tmp_path / "runs" / "samples.png"
    found = vq_vae_2.main(30, count=20, picture=str(picture))
    assert list(found) == ["as drawn", "accepted", "best fifth"]
    assert all(0 <= share <= 1 for share in found.values())
    assert "acceptance" in capsys.readouterr().out and picture.stat().st_size > 1000
