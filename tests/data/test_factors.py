"""Known factors of data sets: from sprites and from a user's own file, whole and of a part."""

import numpy as np
import pytest
import torch

from pplvm.data.factors import factors_of
from pplvm.data.files import from_array
from pplvm.data.image_data import ImageData
from pplvm.data.sprites import sprites


def toy(factors):
    data = ImageData(torch.rand(len(factors), 3), "toy", None)
    data.arrays = {"factors": lambda: factors}
    return data


def test_sprites_have_their_factors_by_name():
    found = factors_of(sprites("valid", side=16, count=1000))
    assert found.names == ("shape", "scale", "rotation", "x", "y") and found.sizes == (3, 6, 8, 16, 16)
    assert factors_of(sprites("valid", side=16, count=1000), count=20).levels.shape == (20, 5)


def test_a_file_of_ones_own_has_them_under_any_name_and_by_split(tmp_path):
    """The arrays of dSprites' own file, in small: a colour that never varies, levels and values of the others."""
    rng = np.random.default_rng(0)
    levels = np.column_stack([np.zeros(100, int), rng.integers(0, 3, 100), rng.integers(0, 6, 100)])
    images = rng.integers(0, 2, (100, 8, 8)).astype(np.uint8)
    np.savez(tmp_path / "own.npz", imgs=images, latents_classes=levels, latents_values=levels / 7)
    data = from_array(tmp_path / "own.npz", "imgs", "test")
    found = factors_of(data, "latents_classes")
    assert found.names == ("factor 2", "factor 3") and found.constant == ("factor 1",)
    assert str(found).endswith("; factor 1 left out, as they do not vary")
    place = [images.tolist().index(image) for image in data.images.tolist()]
    assert torch.equal(found.levels, torch.from_numpy(levels[place, 1:]))
    with pytest.raises(ValueError, match="not whole"):
        factors_of(data, "latents_values")
    with pytest.raises(ValueError, match="it has latents_classes, latents_values; name the one"):
        factors_of(data)


@pytest.mark.parametrize(
    ("factors", "told"),
    [
        (torch.tensor([0, 1, 2]), "a row a datum and a column a factor"),
        (torch.tensor([[0.5, 1.0], [1.0, 2.0]]), "not whole"),
        (torch.tensor([[0.0, 1.0], [torch.inf, 2.0]]), "not whole"),
        (torch.tensor([[0.0, 1.0], [torch.nan, 2.0]]), "not whole"),
        (torch.tensor([[0, 1], [0, 2]]), "1 columns that vary"),
    ],
)
def test_what_are_no_factors_is_refused(factors, told):
    with pytest.raises(ValueError, match=told):
        factors_of(toy(factors))


@pytest.mark.parametrize("factors", [np.array([["red", "big"]] * 30), np.zeros((29, 2), int)])
def test_an_array_of_words_or_of_another_length_is_no_array_of_factors(factors, tmp_path):
    images = np.random.default_rng(0).integers(0, 2, (30, 8, 8)).astype(np.uint8)
    np.savez(tmp_path / "own.npz", x=images, factors=factors)
    with pytest.raises(ValueError, match="no array 'factors' of known factors, whole numbers with as many rows as"):
        factors_of(from_array(tmp_path / "own.npz", "x"))


def test_data_without_factors_say_so_in_one_sentence():
    with pytest.raises(ValueError, match="data set 'toy' has no array 'factors' of known factors") as error:
        factors_of(ImageData(torch.rand(3, 3), "toy", None))
    assert "use sprites" in str(error.value) and "\n" not in str(error.value)
