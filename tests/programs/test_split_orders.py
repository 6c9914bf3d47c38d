"""Orders of coordinates: permutations whose halves are colours of a checkerboard, rows or columns."""

import pytest
import torch

from pplvm.programs.split_orders import split_orders


@pytest.mark.parametrize("shape", [(5,), (6,), (1, 4, 4), (3, 2, 6), (1, 28, 28)])
def test_every_order_is_a_permutation_and_each_half_moves(shape):
    size = torch.Size(shape).numel()
    orders = split_orders(shape, 8)
    assert len(orders) == 8
    for split in orders:
        assert torch.equal(split.order.sort().values, torch.arange(size))
        assert torch.Size(split.given).numel() == size // 2 and torch.Size(split.moved).numel() == size - size // 2
    for forth, back in zip(orders[::2], orders[1::2], strict=True):
        moved = set(forth.order[size // 2 :].tolist()) | set(back.order[size // 2 :].tolist())
        assert len(moved) == size


def test_the_first_is_a_checkerboard_of_pixels_and_the_next_of_blocks():
    given = torch.zeros(16, dtype=torch.long)
    orders = split_orders((1, 4, 4), 4)
    given[orders[0].order[:8]] = 1
    row, column = torch.arange(4)[:, None], torch.arange(4)
    assert torch.equal(given.reshape(4, 4), 1 - (row + column) % 2)
    given.zero_()[orders[2].order[:8]] = 1
    assert torch.equal(given.reshape(4, 4), 1 - (row // 2 + column // 2) % 2)


def test_what_is_given_is_an_image():
    """Neighbours of the given half are neighbours in the data: rows of a channel run along rows."""
    split = split_orders((1, 4, 6), 2)[0]
    pixel = split.order[: split.order.numel() // 2].reshape(split.given)
    assert torch.equal(pixel[0], torch.tensor([[0, 2, 4], [12, 14, 16]]))


@pytest.mark.parametrize(
    ("shape", "couplings", "told"),
    [
        ((1, 7, 8), 4, "images of 7 x 8 have no 2 x 2 blocks to squeeze: pad them to even height and width"),
        ((6,), 3, "num_couplings must be a positive even number, so that both halves move, got 3"),
        ((6,), 0, "num_couplings must be a positive even number"),
        ((1,), 2, "a coupling needs data of at least 2 dimensions, got 1"),
    ],
)
def test_what_has_no_halves_is_refused(shape, couplings, told):
    with pytest.raises(ValueError, match=told):
        split_orders(shape, couplings)
