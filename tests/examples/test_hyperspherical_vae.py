"""The example of the VAE on the sphere, with few steps."""

import pytest
import torch

from examples import hyperspherical_vae


@pytest.fixture(autouse=True)
def single_precision(known_state):
    """The example as a user runs it."""
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(torch.float64)


def test_the_rate_is_the_one_that_was_known(tmp_path):
    picture = tmp_path / "sphere.png"
    found = hyperspherical_vae.main(60, tested=12, most=10, picture=str(picture))
    assert list(found) == [10.0, 70.0] and picture.stat().st_size > 5_000
    for told in found.values():
        assert told["rate"] == pytest.approx(told["known rate"], abs=1e-4) and told["spread"] < 1e-5
        assert told["elbo"] == pytest.approx(-told["rate"] - told["distortion"], abs=1e-4)
        assert told["elbo"] < told["log p(x)"] + 1
        assert told["distortion"] < 35
    assert found[10.0]["rate"] < found[70.0]["rate"]
