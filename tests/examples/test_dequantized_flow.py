"""The example of two dequantizers, with few steps."""

import pytest
import torch

from examples import dequantized_flow


@pytest.fixture(autouse=True)
def single_precision(known_state):
    """The example as a user runs it."""
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(torch.float64)


def test_more_draws_are_tighter_and_figures_are_told(capsys, tmp_path):
    picture = tmp_path / "runs" / "samples.png"
    found = dequantized_flow.main(10, tested=10, picture=str(picture))
    assert list(found) == ["uniform", "variational"]
    for one, many in found.values():
        assert 1.5 < many < one < 4.5
    assert "10 test images of digits, 17 levels, 10 steps, bits/dim" in capsys.readouterr().out
    assert picture.stat().st_size > 1000
