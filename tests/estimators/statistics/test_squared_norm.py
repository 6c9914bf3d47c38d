"""The norm's test keeps its level whatever the noise's spectrum, and sees a bias in its noisiest direction."""

import pytest
import torch
from torch import Tensor

from pplvm.estimators.statistics.bias import BiasNorm, BiasTest, with_norms
from pplvm.estimators.statistics.squared_norm import MeanNoise

SPECTRA = {
    "one direction": torch.tensor([1.0]),
    "one above many": torch.cat([torch.tensor([1.0]), torch.full((100,), 0.1)]),
    "all alike": torch.ones(50),
    "falling": 0.8 ** torch.arange(40.0),
}


def noise_of(spectrum: Tensor) -> MeanNoise:
    square, cube = float(spectrum.square().sum()), float(spectrum.pow(3).sum())
    return MeanNoise(float(spectrum.sum()), square**0.5, cube / square**1.5, 1e6)


def excesses(spectrum: Tensor, bias: Tensor, draws: int) -> Tensor:
    return (torch.randn(draws, len(spectrum)) * spectrum.sqrt() + bias).square().sum(1) - spectrum.sum()


def critical(noise: MeanNoise, level: float) -> float:
    """By bisection."""
    low, high = 0.0, 1e4
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if noise.p_value(middle) > level else (low, middle)
    return high


@pytest.mark.parametrize("name", SPECTRA)
def test_the_level_is_kept(name):
    noise = noise_of(SPECTRA[name].double())
    found = excesses(SPECTRA[name].double(), torch.zeros(len(SPECTRA[name])), 20_000)
    for level in (0.05, 0.01, 0.001):
        alarms, expected = int((found > critical(noise, level)).sum()), 20_000 * level
        assert abs(alarms - expected) < 4 * expected**0.5 + 0.15 * expected
    normal = noise.frobenius * 2**0.5 * 3.09  # of two moments alone: the level is not kept where one direction rules
    assert (int((found > normal).sum()) > 80) == (name in ("one direction", "one above many", "falling"))


@pytest.mark.parametrize("name", SPECTRA)
def test_a_bias_of_the_detectable_size_is_seen_wherever_it_points(name):
    spectrum = SPECTRA[name].double()
    noise = noise_of(spectrum)
    limit, size = critical(noise, 0.01), noise.detectable(0.01, 0.95)
    for place in (0, -1):  # the noisiest direction, and the quietest
        bias = torch.zeros(len(spectrum)).index_fill(0, torch.tensor(place % len(spectrum)), size)
        assert (excesses(spectrum, bias, 4000) > limit).double().mean() > 0.94
        assert (excesses(spectrum, bias / 2, 4000) > limit).double().mean() < 0.9


def test_the_verdict_is_that_of_both_tests():
    clear = BiasTest(1.0, 0.5, torch.zeros(1), 0.05, "unbiased")
    noise = MeanNoise(0.02, 0.001, 0.3, 300)

    def verdict(excess: float, test: BiasTest = clear) -> BiasTest:
        return with_norms(test, [BiasNorm(excess, 1.0, noise)], alpha=1e-4, doubt=0.01)

    assert verdict(0.0).verdict == "unbiased" and 0.05 < verdict(0.0).anywhere < 0.15
    assert verdict(0.1).verdict == "biased" and verdict(0.1).p_norm < 1e-4
    assert verdict(0.006).verdict == "undecided"  # below the level of one test, above that shared by all
    assert verdict(0.0, BiasTest(1.0, 1e-9, torch.zeros(1), 0.05, "biased")).verdict == "biased"
    assert verdict(0.0, BiasTest(1.0, 0.5, torch.zeros(1), 9.0, "undecided")).detectable < 0.2  # the norm's own
    assert with_norms(clear, [], 1e-4, 0.01).anywhere == 0
