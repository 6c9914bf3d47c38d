"""The example of the VampPrior, with few steps."""

import pytest
import torch

from examples import vamp_vae


@pytest.fixture(autouse=True)
def single_precision(known_state):
    """The example as a user runs it."""
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(torch.float64)


def test_both_priors_learn_and_the_rate_is_what_the_surgery_says(capsys, tmp_path):
    picture = tmp_path / "runs" / "samples.png"
    found = vamp_vae.main(40, components=20, most=20, picture=str(picture))
    assert list(found) == ["N(0, I)", "VampPrior"]
    for row in found.values():
        assert -40 < row["log p(x), k = 1"] < row["log p(x), k = 20"] < -15
        assert row["rate"] == pytest.approx(row["I_q(x; z)"] + row["KL(q(z) || p(z))"], abs=1e-3)
    assert "VampPrior" in capsys.readouterr().out
    assert picture.stat().st_size > 1000
