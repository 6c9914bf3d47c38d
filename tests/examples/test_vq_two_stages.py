"""The example of two stages with few steps: the same data cost under every prior, and learned priors cost less."""

import pytest
import torch

from examples import vq_two_stages


@pytest.fixture(autouse=True)
def single_precision(known_state):
    """The example as a user runs it."""
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(torch.float64)


def test_the_table_and_the_picture(capsys, tmp_path):
    found = vq_two_stages.main(52, tested=12, picture=tmp_path / "samples.png")
    assert list(found) == ["uniform", "pixelcnn", "transformer", "absorbing"]
    assert found["uniform"]["codes, bits"] == pytest.approx(16)
    for name, of in found.items():
        assert of["data given codes"] == pytest.approx(found["uniform"]["data given codes"], rel=1e-5)
        assert name == "uniform" or of["codes"] < found["uniform"]["codes"]
    assert "bits/dim" in capsys.readouterr().out and (tmp_path / "samples.png").stat().st_size > 1000
