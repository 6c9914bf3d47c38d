"""The example of a flow as prior, with few steps."""

import pytest
import torch

from examples import flow_prior_vae


@pytest.fixture(autouse=True)
def single_precision(known_state):
    """The example as a user runs it."""
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(torch.float64)


def test_both_priors_learn(capsys, tmp_path):
    picture = tmp_path / "runs" / "samples.png"
    found = flow_prior_vae.main(30, tested=10, k=20, picture=str(picture))
    assert list(found) == ["N(0, I)", "RealNVP"]
    for bound, likelihood in found.values():
        assert 15 < likelihood < bound < 40
    assert "10 test images of digits, 30 steps" in capsys.readouterr().out
    assert picture.stat().st_size > 1000
