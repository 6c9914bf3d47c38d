"""The example of the delta-VAE, with few steps."""

import pytest
import torch

from examples import delta_vae


@pytest.fixture(autouse=True)
def single_precision(known_state):
    """The example as a user runs it."""
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(torch.float64)


def test_the_rate_is_above_its_floor_whatever_it_costs(capsys, tmp_path):
    picture = tmp_path / "runs" / "samples.png"
    found = delta_vae.main(40, beta=50.0, most=20, tested=60, picture=str(picture))
    assert list(found) == [(name, beta) for name in ("vae", "delta-vae") for beta in (1.0, 50.0)]
    for (name, beta), row in found.items():
        assert row["rate"] > row["floor"] and (row["floor"] > 2) == (name == "delta-vae")
        assert beta == 1 or row["rate"] < row["floor"] + 0.5
    assert "beta 50" in capsys.readouterr().out
    assert picture.stat().st_size > 1000
