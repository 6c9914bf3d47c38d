"""Contestants of the quantization table compute the same; skipped where a peer is not installed."""

import pytest
import torch

from benchmarks.contestants import by_hand, images, in_tier, seeded
from benchmarks.handwritten import vq_vae_elbo
from benchmarks.peers.quantization import CONTESTANTS, LUCIDRAINS, OURS, data, judge_of_quantization, objective, program

SIZES = (256, 4, 8)


@pytest.fixture(autouse=True)
def single_precision(known_state):
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(torch.float64)


@pytest.mark.parametrize("name", CONTESTANTS)
def test_gradient_and_moved_codes_are_those_by_hand(name):
    if name == LUCIDRAINS:
        pytest.importorskip("vector_quantize_pytorch")
    verdict = judge_of_quantization(SIZES, "cpu")(name, CONTESTANTS[name](*data(*SIZES, "cpu")))
    assert verdict.agrees, verdict.text


def test_one_that_moves_other_codes_is_left_out():
    z, slope, codes = data(*SIZES, "cpu")
    wrong = CONTESTANTS[OURS](z, slope, codes + 0.5)
    assert not judge_of_quantization(SIZES, "cpu")("wrong", wrong).agrees


def test_the_whole_step_is_that_by_hand():
    x = images(6)
    ours = in_tier("graph", objective(), seeded(program), x).gradient()
    trusted = by_hand(vq_vae_elbo, seeded(program), x, 1).gradient()
    assert (ours - trusted).norm() < 1e-4 * trusted.norm()
