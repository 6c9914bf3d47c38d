"""Bound, rate and distortion of a batch during training, with one particle a datum."""

from torch import nn

from pplvm.batch import Batch, as_tuple
from pplvm.evaluation.per_datum import without_training
from pplvm.evaluation.proper_weighting import why_improperly_weighted
from pplvm.particles.contract import latents
from pplvm.particles.pair import draw_from_pair, pair_up, sum_sites

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
        with without_training(program, as_tuple(x)):
            self.pair = pair_up(program.model, program.guide, as_tuple(x), {})
            self.fault = why_improperly_weighted(self.pair, x)

    def __call__(self, x: Batch) -> dict[str, float]:
        with without_training(self.program, as_tuple(x)):
            drawn = draw_from_pair(self.pair, 1, as_tuple(x), {})
        held = latents(drawn.guide_trace)
        observed = {name: term for name, term in drawn.log_p_sites.items() if name not in held}
        distortion = -float(sum_sites(observed).mean())
        log_weight = float(drawn.log_weights.mean())
        name = "log_weight" if self.fault else "elbo"
        return {name: log_weight, "rate": -log_weight - distortion, "distortion": distortion}
