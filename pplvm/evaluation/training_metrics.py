"""Bound, rate and distortion of a batch during training, with one particle a datum."""

from collections.abc import Iterator
from contextlib import contextmanager

import pyro
import torch
from torch import nn

from pplvm.batch import Batch, as_tuple
from pplvm.evaluation.proper_weighting import why_improperly_weighted
from pplvm.particles.contract import latents
from pplvm.particles.pair import draw_from_pair, pair_up, sum_sites
from pplvm.particles.side_effects import without_side_effects

__all__ = ["TrainingMetrics"]


class TrainingMetrics:
    """Map a batch (B, ...) to {"elbo", "rate", "distortion"} in nats per datum; elbo = -(rate + distortion).

    A batch with conditions is a tuple (x, y). It runs in eval mode with the random state put back, so that training is
    the same with it and without. Where a fault keeps the elbo from a bound on log p(x), it is called "log_weight".

    Arguments:
        program: with methods model(x) and guide(x).
        x: a batch on which the program is checked, with its conditions if it has any.

    Raises:
        ProgramError: the program breaks a rule of `pplvm.particles.contract`.
    """

    def __init__(self, program: nn.Module, x: Batch) -> None:
        self.program = program
        with _evaluation_mode(program, x):
            self.pair = pair_up(program.model, program.guide, as_tuple(x), {})
            self.fault = why_improperly_weighted(self.pair, x)

    def __call__(self, x: Batch) -> dict[str, float]:
        with _evaluation_mode(self.program, x):
            drawn = draw_from_pair(self.pair, 1, as_tuple(x), {})
        held = latents(drawn.guide_trace)
        observed = {name: term for name, term in drawn.log_p_sites.items() if name not in held}
        distortion = -float(sum_sites(observed).mean())
        log_weight = float(drawn.log_weights.mean())
        name = "log_weight" if self.fault else "elbo"
        return {name: log_weight, "rate": -log_weight - distortion, "distortion": distortion}


@contextmanager
def _evaluation_mode(program: nn.Module, x: Batch) -> Iterator[None]:
    """Evaluation mode without gradient; modes, buffers and random state are restored afterwards."""
    modes = [(module, module.training) for module in program.modules()]
    with without_side_effects(program, as_tuple(x)), torch.no_grad(), pyro.get_param_store().scope():
        program.eval()
        try:
            yield
        finally:
            for module, mode in modes:
                module.training = mode
