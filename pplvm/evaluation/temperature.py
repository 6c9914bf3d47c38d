"""Runs a model at a temperature: the noise of normal and categorical latents scaled, the likelihood as it is.

Batch normalization has seen latents at temperature one; its running statistics are computed anew for another.
"""

import math
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pplvm.batch import Batch, as_tuple, batch_rows
from pplvm.distributions.temperature import at_temperature
from pplvm.evaluation.per_datum import cycle_conditions
from pplvm.particles.conditions import WithoutData, observed_conditions
from pplvm.particles.contract import latents
from pplvm.particles.dreams import without_data
from pplvm.particles.pair import Pair

__all__ = ["AtTemperature", "batch_normalizations", "recompute_statistics", "require_temperature"]

BATCHES, BATCH = 10, 100
"""Runs from which statistics are recomputed, and samples in each: their means err by a thirtieth of a deviation."""


class AtTemperature(Messenger):
    """A Pyro messenger that scales the noise of every latent, by `at_temperature`.

    Arguments:
        temperature: T.
    """

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def _pyro_sample(self, msg: Any) -> None:
        of_data = msg["is_observed"] or msg["infer"].get("was_observed")
        if not (of_data or site_is_subsample(msg)):
            msg["fn"] = at_temperature(msg["fn"], self.temperature)


def require_temperature(pair: Pair, like: Batch, temperature: float) -> None:
    """Refuse a temperature that is not defined for a latent of the model.

    Raises:
        ValueError: temperature is not above 0 or not finite; a latent is of bits or counts, on a sphere, a mixture.
    """
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"temperature must be a finite number above 0, got {temperature}")
    for name, site in latents(without_data(pair, batch_rows(as_tuple(like), slice(1)), {})).items():
        if not site["infer"].get("was_observed"):
            try:
                at_temperature(site["fn"], temperature)
            except ValueError as error:
                raise ValueError(f"temperature {temperature:g}: latent {name!r}: {error}: leave it out") from error


def batch_normalizations(program: nn.Module) -> list[_BatchNorm]:
    """The modules of a program that normalize by running statistics of batches."""
    return [each for each in program.modules() if isinstance(each, _BatchNorm) and each.track_running_stats]


def recompute_statistics(program: nn.Module, pair: Pair, like: Batch, temperature: float, seed: int) -> None:
    """Set the running statistics of batch normalization to those of the model's samples at a temperature.

    Each is the mean over batches of samples; of a module that the model does not run, they stay.

    Arguments:
        program: a copy, whose buffers change.
        pair: of that copy.
        like: as of `prior_samples`.
        seed: of the samples.
    """
    before = {norm: {n: each.clone() for n, each in norm.named_buffers()} for norm in batch_normalizations(program)}
    momenta = {norm: norm.momentum for norm in before}
    for norm in before:
        norm.reset_running_stats()
        norm.momentum, norm.training = None, True  # the mean over all batches
    torch.manual_seed(seed)
    for number in range(BATCHES):
        args = cycle_conditions(as_tuple(like), range(number * BATCH, (number + 1) * BATCH))
        model = WithoutData(frozenset(observed_conditions(pair, args, {})))(pair.model)
        with AtTemperature(temperature):
            pair.run(model, 1, args, {})
    for norm, buffers in before.items():
        norm.momentum, norm.training = momenta[norm], False
        if norm.num_batches_tracked == 0:
            norm.load_state_dict(buffers, strict=False)
