"""The convolutional example runs with few steps, and shows what it says."""

import pytest
import torch

from examples import conv_vae


@pytest.fixture(autouse=True)
def single_precision(known_state):
    """The examples as a user runs them."""
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(torch.float64)


def test_colder_samples_deviate_less(tmp_path):
    picture = tmp_path / "new folder" / "conv_vae.png"
    figures, spread = conv_vae.main(40, tested=20, most=10, picture=str(picture))
    assert list(figures) == ["dense", "convolutional"]
    for found in figures.values():
        assert all(-60 < figure.value < -10 for name, figure in found.items() if name.startswith("log p(x)"))
    assert spread[1.0] > spread[0.7] > spread[0.4]
    assert picture.stat().st_size > 1_000
