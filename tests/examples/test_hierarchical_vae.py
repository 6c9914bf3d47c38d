"""The example of the hierarchy runs with few steps, and shows what it says."""

import pytest
import torch

from examples import hierarchical_vae


@pytest.fixture(autouse=True)
def single_precision(known_state):
    """The example as a user runs it."""
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(torch.float64)


def test_every_group_starts_at_the_prior_and_comes_to_tell_something(capsys, tmp_path):
    picture = tmp_path / "runs" / "samples.png"
    found = hierarchical_vae.main(80, tested=20, k=50, picture=str(picture))
    assert "rates before training: 0 0 0\n" in capsys.readouterr().out
    ours, plain = found["hierarchical"], found["plain"]
    groups = [ours[f"rate of z_{number}"].value for number in (1, 2, 3)]
    assert min(groups) > 0 and ours["rate"].value == pytest.approx(sum(groups), rel=1e-5)
    assert "rate of z_1" not in plain and "closed form" in ours["rate of z_3"].note
    assert ours["log p(x), k = 50"].value > -24  # independent pixels have -24.46 on all test images
    assert picture.stat().st_size > 1000
