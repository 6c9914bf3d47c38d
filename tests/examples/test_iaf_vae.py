"""The example of an inverse autoregressive flow as posterior, with few steps."""

import pytest
import torch

from examples import iaf_vae


@pytest.fixture(autouse=True)
def single_precision(known_state):
    """The example as a user runs it."""
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(torch.float64)


def test_both_posteriors_learn_and_their_bounds_fall_short(capsys, tmp_path):
    picture = tmp_path / "runs" / "samples.png"
    found = iaf_vae.main(60, tested=20, k=50, picture=str(picture))
    assert list(found) == ["diagonal normal", "two flows"]
    for figures in found.values():
        assert -40 < figures["bound"] < figures["log p(x)"] < -15
        assert figures["gap"] == pytest.approx(figures["log p(x)"] - figures["bound"])
    assert abs(found["diagonal normal"]["log p(x)"] - found["two flows"]["log p(x)"]) < 5  # one start, the same batches
    assert "20 test images of digits, 60 steps" in capsys.readouterr().out
    assert picture.stat().st_size > 1000
