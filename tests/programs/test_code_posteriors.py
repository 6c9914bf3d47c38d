"""Posteriors of codes: a temperature that is learned, fixed or falls."""

import pytest
import torch

from pplvm.distributions.code_categorical import CodeCategorical
from pplvm.programs.code_posteriors import AnnealedCodes, StochasticCodes


def test_a_temperature_that_is_learned_and_one_that_is_not():
    z, codes = torch.randn(5, 2), torch.randn(4, 2)
    for learned in (True, False):
        posterior = StochasticCodes(0.3, learned)
        torch.testing.assert_close(posterior(z, codes).logits, CodeCategorical(z, codes, 0.3).logits)
        assert len(list(posterior.parameters())) == learned and "log_temperature" in posterior.state_dict()
    posterior = StochasticCodes(0.3)
    posterior(z, codes).log_prob(torch.eye(4)[[0] * 5]).sum().backward()
    assert posterior.log_temperature.grad.abs() > 0


def test_one_that_falls_is_kept_with_the_weights():
    posterior = AnnealedCodes(2.0, 0.5, steps=4)
    for _ in range(2):
        posterior.after_step(lambda rows: rows)
    again = AnnealedCodes(2.0, 0.5, steps=4)
    again.load_state_dict(posterior.state_dict())
    torch.testing.assert_close(again.temperature, torch.tensor(1.0))
    z, codes = torch.randn(5, 2), torch.randn(4, 2)
    torch.testing.assert_close(again(z, codes).logits, CodeCategorical(z, codes, 1.0).logits)


@pytest.mark.parametrize(
    "make, word",
    [
        (lambda: StochasticCodes(0.0), "StochasticCodes: temperature"),
        (lambda: AnnealedCodes(start=-1.0), "AnnealedCodes: start"),
        (lambda: AnnealedCodes(end=0.0), "AnnealedCodes: end"),
        (lambda: AnnealedCodes(steps=0), "AnnealedCodes: steps"),
        (lambda: StochasticCodes(float("inf")), "StochasticCodes: temperature"),
    ],
)
def test_numbers_above_zero(make, word):
    with pytest.raises(ValueError, match=f"{word} must be a number above 0, got"):
        make()
