"""The beta curve with few steps: rate falls with beta, and every seed is there."""

import pytest
import torch

from examples import disentanglement


@pytest.fixture(autouse=True)
def single_precision(known_state):
    """The example as a user runs it."""
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(torch.float64)


def test_the_rate_falls_with_beta_and_each_seed_has_its_scores(tmp_path, capsys):
    picture = tmp_path / "new folder" / "beta.png"
    found = disentanglement.main((0.5, 8.0), seeds=2, steps=60, picture=str(picture), tested=60)
    assert list(found) == [0.5, 8.0] and all(len(values) == 2 for of in found.values() for values in of.values())
    assert max(found[8.0]["rate"]) < min(found[0.5]["rate"])
    assert all(0 <= score <= 1 for of in found.values() for score in of["MIG"])
    assert found[0.5]["rate"][0] != found[0.5]["rate"][1]
    assert "+-" in capsys.readouterr().out and picture.stat().st_size > 10_000
    disentanglement.main((1.0,), seeds=1, steps=2, picture=str(picture), tested=10)
    assert "(one seed)" in capsys.readouterr().out
