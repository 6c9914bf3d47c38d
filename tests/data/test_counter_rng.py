"""The counter-based streams: known outputs, independence of order, and uniformity."""

import numpy as np
import pytest
import torch

from pplvm.data.counter_rng import GOLDEN, permutation, splitmix64, uniforms


def test_splitmix64_gives_the_published_sequence_of_seed_zero():
    states = GOLDEN * np.arange(3, dtype=np.uint64)
    known = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert splitmix64(states).tolist() == known


def test_a_draw_depends_on_its_own_index_only():
    together = uniforms(3, 5, torch.tensor([8, 1, 4]), 6)
    for row, index in enumerate([8, 1, 4]):
        assert torch.equal(together[row], uniforms(3, 5, torch.tensor([index]), 6)[0])


def test_seed_epoch_index_and_size_each_matter():
    index = torch.arange(3)
    draws = uniforms(0, 0, index, 50)
    assert draws.unique().numel() == draws.numel()
    for other in (uniforms(1, 0, index, 50), uniforms(0, 1, index, 50), uniforms(0, 0, index + 3, 50)):
        assert not bool((draws == other).any())
    assert not torch.equal(uniforms(1, 0, index, 50), uniforms(0, 1, index, 50))
    assert torch.equal(uniforms(0, 0, index, 20), draws[:, :20])


@pytest.mark.parametrize("seed", [0, -1, 2**64 - 1])
def test_uniform_in_mean_variance_and_lag(seed):
    draws = uniforms(seed, 2, torch.arange(500), 200).double()
    assert draws.min() >= 0 and draws.max() < 1
    count = draws.numel()
    assert abs(draws.mean() - 0.5) < 4 * (1 / 12 / count) ** 0.5
    assert abs(draws.var() - 1 / 12) < 4 * (1 / 180 / count) ** 0.5
    centred = draws - 0.5
    for products in (centred[:, 1:] * centred[:, :-1], centred[1:] * centred[:-1]):
        assert abs(products.mean()) < 4 * (1 / 12) / products.numel() ** 0.5


def test_permutation_is_one_and_moves_with_seed_and_epoch():
    order = permutation(100, seed=0)
    assert torch.equal(order.sort().values, torch.arange(100))
    assert torch.equal(order, permutation(100, seed=0))
    others = [torch.arange(100), permutation(100, seed=1), permutation(100, seed=0, epoch=1)]
    assert not any(torch.equal(order, other) for other in others)


def test_the_order_is_not_the_draws_in_disguise():
    order = permutation(100, seed=0)
    assert not torch.equal(order, uniforms(0, 0, torch.arange(100), 1)[:, 0].argsort())


def test_permutation_puts_every_datum_everywhere_equally_often():
    places = torch.stack([permutation(5, seed) for seed in range(2000)])  # (2000, 5)
    counts = torch.stack([(places == datum).sum(0) for datum in range(5)]).double()  # (datum, place)
    assert ((counts - 400).abs() < 4.5 * (2000 * 0.2 * 0.8) ** 0.5).all()
