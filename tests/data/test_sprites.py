"""Sprites: all levels occur, all images differ, factors move what they say, splits share nothing."""

import numpy as np
import pytest
import torch

from pplvm.data.binarization import binarize
from pplvm.data.sprites import FACTORS, sprites

SMALL = {"side": 32, "sizes": (3, 4, 4, 4)}


def grid(**settings):
    """All images and levels, in the order of the grid."""
    parts = [sprites(split, **SMALL | settings) for split in ("train", "valid", "test")]
    images = torch.cat([part.stored for part in parts])
    factors = torch.cat([part.arrays["factors"]() for part in parts])
    order = np.lexsort(factors.numpy().T[::-1])
    return images[order], factors[order]


def test_the_splits_make_the_grid_and_all_images_differ():
    images, factors = grid()
    assert torch.equal(factors, torch.cartesian_prod(*map(torch.arange, (3, 3, 4, 4, 4))))
    assert len(images.flatten(1).unique(dim=0)) == len(images) == 576
    assert [len(sprites(split, **SMALL)) for split in ("train", "valid", "test")] == [462, 57, 57]


def test_images_are_binary_with_the_sprite_inside():
    images, _ = grid()
    assert set(images.unique().tolist()) == {0, 1} and images.dtype == torch.uint8
    border = torch.ones(32, 32, dtype=torch.bool)
    border[1:-1, 1:-1] = False
    assert int(images[:, border].sum()) == 0
    data = sprites(**SMALL)
    assert (data.spec.levels, data.spec.shape, data.spec.num_classes) == (2, (32, 32), 3)
    assert "re-rendered" in data.spec.name and data[0].dtype == torch.float32


def test_each_factor_moves_what_it_says():
    images, factors = grid()
    shape, scale, _, x, y = factors.T
    area = images.double().sum((1, 2))
    places = torch.arange(32.0, dtype=torch.float64)
    right = (images.double().sum(1) * places).sum(1) / area
    down = (images.double().sum(2) * places).sum(1) / area
    for level in range(3):  # each step of x is 4 pixels to the right, each of y 4 up
        assert torch.allclose(right[x == level + 1] - right[x == level], torch.tensor(4.0), atol=1e-9)
        assert torch.allclose(down[y == level] - down[y == level + 1], torch.tensor(4.0), atol=1e-9)
    for number in range(3):
        mine = shape == number
        sizes = [float(area[mine & (scale == level)].mean()) for level in range(3)]
        assert sizes[2] / sizes[0] == pytest.approx((0.21 / 0.12) ** 2, rel=0.06)
    square = images[(shape == 0) & (x == 1) & (y == 1) & (scale == 2)]
    assert len(square.flatten(1).unique(dim=0)) == 4  # a quarter turn holds no rotation twice


def test_a_part_of_the_grid_is_random_by_its_seed_and_the_same_each_time():
    one, same, other = (sprites("train", **SMALL, count=100, seed=seed) for seed in (0, 0, 1))
    assert len(one) == 80 and torch.equal(one.stored, same.stored)
    assert not torch.equal(one.stored, other.stored)
    rows = {tuple(row) for split in ("train", "valid", "test") for row in _factors(split)}
    assert len(rows) == 100


def _factors(split):
    return sprites(split, **SMALL, count=100).arrays["factors"]().tolist()


def test_factors_stay_with_the_data_through_what_is_made_of_them():
    data = sprites("test", **SMALL)
    for made in (binarize(data, "static"), data.with_channel(), data.conditioned("labels"), data.to("cpu")):
        assert made.factor_names == FACTORS and torch.equal(made.arrays["factors"](), data.arrays["factors"]())
    assert data.conditioned("factors")[0][1].shape == (5,)
    assert torch.equal(data.labels, data.arrays["factors"]()[:, 0])


def test_the_standard_grid_has_equal_shares_of_every_level():
    data = sprites("train", side=16)
    factors = data.arrays["factors"]()
    assert len(data) == 29_492 and factors.max(0).values.tolist() == [2, 5, 7, 15, 15]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"split": "all"}, "no split 'all'"),
        ({"side": 8}, "at least 16 pixels, got 8"),
        ({"sizes": (6, 8, 16)}, "got 6,8,16"),
        ({"sizes": (1, 8, 16, 16)}, "each at least 2"),
        ({"count": 40_000}, "from 10 to 36,864"),
        ({"count": 5}, "count must be from 10"),
    ],
)
def test_settings_that_make_no_data_are_refused(settings, told):
    with pytest.raises(ValueError, match=told):
        sprites(**settings)
