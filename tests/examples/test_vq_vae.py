"""The example of the VQ-VAE, with few steps and few codes."""

import math

import pytest
import torch

from examples import vq_vae


@pytest.fixture(autouse=True)
def single_precision(known_state):
    """The example as a user runs it."""
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(torch.float64)


def test_both_guides_learn_below_the_exact_likelihood(capsys, tmp_path):
    picture = tmp_path / "runs" / "codes.png"
    found = vq_vae.main(60, num_codes=4, num_test=30, picture=str(picture))
    assert list(found) == ["nearest", "stochastic"]
    for row in found.values():
        assert -45 < row["elbo"] < row["log p(x), exact"] < -15
    assert found["nearest"]["rate"] == pytest.approx(4 * math.log(4), abs=1e-4)
    assert 2 <= found["nearest"]["codes used"] <= 4
    assert "stochastic" in capsys.readouterr().out and picture.stat().st_size > 1000
