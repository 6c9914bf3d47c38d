"""Exact log p(x), datum by datum, where a program knows it or its latents can be enumerated."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from pplvm.batch import Batch, as_tuple, batch_rows
from pplvm.evaluation.figures import Figure, mean_of
from pplvm.evaluation.likelihood_names import LikelihoodNames, likelihood_names
from pplvm.evaluation.per_datum import each_row, evaluation_mode
from pplvm.evaluation.states_decoded_once import MOST_STATES, log_p_of_all
from pplvm.particles.conditions import observed_conditions
from pplvm.particles.contract import latents, sample_sites
from pplvm.particles.enumeration import enumerate_model, latent_states
from pplvm.particles.factors import unnormalised
from pplvm.particles.pair import Pair
from pplvm.particles.random_lower_bounds import require_exact_densities
from pplvm.particles.vectorization_check import raise_program_error, why_states_interact

__all__ = ["Evidence", "has_discrete_data", "has_latents", "log_evidence"]

MOST_OF_ONE = 2**14
"""Joint states that are decoded for one datum: some 50 MB of MNIST's pixels in float32."""

FEW_STATES = 2**10
"""Joint states that each datum may have decoded for itself, as they take milliseconds."""

BYTES = 2**25
"""Data handed at once to a program's own method."""


@dataclass(frozen=True)
class Evidence:
    """Log p(x) of each datum, and how it was computed."""

    log_p: Tensor  # (N,), float64, in nats
    how: str  # "in closed form", "1,024 states summed out"
    names: LikelihoodNames = LikelihoodNames()  # what log_p is of

    @property
    def figures(self) -> list[Figure]:
        return [mean_of(f"{self.names.log_p}, exact", self.log_p, note=self.how)]


def log_evidence(
    program: nn.Module, x: Batch, report: Callable[[int, int], None] = lambda *progress: None
) -> Evidence | None:
    """Exact log p(x), in evaluation mode and without gradient; None for a program without an exact method.

    A model with a factor, or another term that nothing normalises, has no log p(x) but the one that its own method
    may know.

    A program may have a third method beside model(x) and guide(x): `log_evidence(x)`, its log p(x), (B, *shape) to
    (B,) in nats, best computed in float64; of data with conditions `log_evidence(x, y)`, what its model gives them,
    log p(x | y) or log p(x, y). Without it, latents that are all discrete are summed out, if they have at
    most 2^20 joint states, or there are none. Each state is decoded once for all data; a decoder that reads data, and
    one of few states, runs on one datum at a time, since float32 rounds differently in other company, and then of at
    most 2^14 states.

    Arguments:
        program: with methods model(x) and guide(x), or model(x, y) and guide(x, y) of conditions.
        x: data (N, *shape), or data and their conditions, (x, y).
        report: is told how many states of all data are done, and of how many.

    Raises:
        FloatingPointError: log p(x) of a datum is not a number.
        ProgramError: the program breaks a rule, or mixes states that are summed out at once.
        ValueError: there are no data; the program's own method gives other than one number a datum.

    Example:
        >>> from pplvm.programs.mixture import MixtureOfGaussians
        >>> found = log_evidence(MixtureOfGaussians(data_size=2, num_components=3), torch.zeros(5, 2))
        >>> found.how, found.log_p.shape
        ('3 states summed out', torch.Size([5]))
    """
    parts = as_tuple(x)
    with evaluation_mode(program, x) as pair:
        first, names = batch_rows(parts, slice(1)), likelihood_names(pair, x)
        require_exact_densities(pair, first, {}, "log p(x)")
        known = getattr(program, "log_evidence", None)
        if callable(known):
            how, log_p = "in closed form", _by_method(known, parts)
        elif (states := _states(pair, first)) is not None:
            how = f"{states:,} states summed out" if has_latents(pair, x) else "the program has no latents"
            log_p = None if states <= FEW_STATES else log_p_of_all(pair, parts, states, report)
            if log_p is None and states > MOST_OF_ONE:
                return None
            if log_p is None:
                raise_program_error(why_states_interact(_model_alone(pair), first, {}))
                log_p = torch.cat([_summed_out(pair, as_tuple(row)) for row in each_row(x)])
        else:
            return None
    for number in log_p.isnan().nonzero()[:1].flatten().tolist():
        raise FloatingPointError(f"log p(x) of datum {number} is not a number: check it and the program's parameters")
    return Evidence(log_p, how, names)


def has_latents(pair: Pair, x: Batch) -> bool:
    """Whether the model or the guide has latents."""
    first = batch_rows(as_tuple(x), slice(1))
    drawn = pair.run_guide(1, first, {})
    return bool(latents(drawn) or latents(pair.run_model(1, drawn, first, {})))


def has_discrete_data(pair: Pair, x: Batch) -> bool:
    """Whether the model gives its data probabilities, and no densities."""
    first = batch_rows(as_tuple(x), slice(1))
    sites = sample_sites(pair.run_model(1, pair.run_guide(1, first, {}), first, {}))
    of_data = sites.keys() - observed_conditions(pair, first, {}).keys()
    return all(sites[name]["fn"].support.is_discrete for name in of_data if sites[name]["is_observed"])


def _by_method(known: Callable[..., Tensor], parts: tuple[Tensor, ...]) -> Tensor:
    try:
        inspect.signature(known).bind(*parts)
    except TypeError as error:
        raise ValueError(
            f"log_evidence does not take a datum as model and guide do, with {len(parts) - 1} conditions beside x "
            f"({error}): give it their arguments"
        ) from error
    x, found = parts[0], []
    at_once = max(1, BYTES // max(1, x[0].numel() * x.element_size()))
    for rows in zip(*(part.split(at_once) for part in parts), strict=True):
        log_p, count = known(*rows), len(rows[0])
        if log_p.shape != (count,):
            raise ValueError(f"log_evidence(x) of {count} data must be ({count},), got {tuple(log_p.shape)}")
        found.append(log_p.double().cpu())
    return torch.cat(found)  # (N,)


def _states(pair: Pair, first: tuple[Tensor, ...]) -> int | None:
    """The number of joint states of the latents; None if too many or continuous, or the joint is no density."""
    trace = pair.run_model(1, pair.run_guide(1, first, {}), first, {})
    if unnormalised(sample_sites(trace), {}):
        return None
    states = latent_states(trace)
    return states if states is not None and states <= MOST_STATES else None


def _summed_out(pair: Pair, row: tuple[Tensor, ...]) -> Tensor:
    log_p, _ = enumerate_model(_model_alone(pair), None, 1, row, {})  # (1, 1)
    return log_p[0].double().cpu()


def _model_alone(pair: Pair) -> Pair:
    return replace(pair, guide=None)
