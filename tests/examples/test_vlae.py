"""The example of an autoregressive flow as prior, with few steps."""

import pytest
import torch

from examples import vlae


@pytest.fixture(autouse=True)
def single_precision(known_state):
    """The example as a user runs it."""
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(torch.float64)


def test_both_priors_learn_and_the_other_side_has_the_same_log_weights(capsys, tmp_path):
    picture = tmp_path / "runs" / "samples.png"
    found = vlae.main(60, tested=20, k=50, picture=str(picture))
    assert list(found) == ["N(0, I)", "two flows", "from the other side"]
    for name in ("N(0, I)", "two flows"):
        bound, likelihood = found[name]
        assert 15 < likelihood < bound < 40
    assert found["N(0, I)"] != found["two flows"]
    apart, size = found["from the other side"]
    assert apart < 1e-10 * size
    assert "20 test images of digits, 60 steps" in capsys.readouterr().out
    assert picture.stat().st_size > 1000
