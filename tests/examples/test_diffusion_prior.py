"""The example of a diffusion as prior, with few steps."""

import pytest
import torch

from examples import diffusion_prior


@pytest.fixture(autouse=True)
def single_precision(known_state):
    """The example as a user runs it."""
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(torch.float64)


def test_all_three_priors_learn_and_draw(capsys, tmp_path):
    picture = tmp_path / "runs" / "samples.png"
    found = diffusion_prior.main(40, tested=10, k=20, picture=str(picture))
    assert list(found) == ["N(0, I)", "diffusion, stage two", "diffusion, jointly"]
    for bound, likelihood, rate in found.values():
        assert 15 < likelihood < bound < 40 and rate > 0
    assert len({bound for bound, _, _ in found.values()}) == 3
    told = capsys.readouterr().out
    assert "stage two: 8 weights taken; new: prior." in told and "10 test images of digits, 40 steps" in told
    assert picture.stat().st_size > 1000
