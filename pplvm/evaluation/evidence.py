"""Log p(x) as it is, datum by datum, where a program knows it or all its latents can be summed out."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from pplvm.evaluation.figures import Figure, mean_of
from pplvm.evaluation.one_by_one import frozen
from pplvm.particles.contract import latents, sample_sites
from pplvm.particles.enumeration import enumerate_model, latent_states
from pplvm.particles.factors import unnormalised
from pplvm.particles.pair import Pair

__all__ = ["Evidence", "has_latents", "log_evidence"]

MOST_STATES = 2**14
"""Joint states of one datum: some 50 MB of MNIST's pixels in float32."""

BYTES = 2**25
"""Data handed at once to a program's own method."""


@dataclass(frozen=True)
class Evidence:
    """Log p(x) of each datum, and how it was found."""

    log_p: Tensor  # (N,), float64, in nats
    how: str  # "in closed form", "1,024 states summed out"

    @property
    def figures(self) -> list[Figure]:
        return [mean_of("log p(x), exact", self.log_p, note=self.how)]


def log_evidence(program: nn.Module, x: Tensor) -> Evidence | None:
    """Exact log p(x), in eval mode and without gradient; None of a program that allows no such thing.

    A model with a factor, or another term that nothing normalises, has no log p(x) but the one that its own method
    may know.

    A program may have a third method beside model(x) and guide(x): `log_evidence(x)`, its log p(x), (B, *shape) to
    (B,) in nats, best computed in float64. Without it, latents that are all discrete are summed out, if they have at
    most 2^14 joint states, or there are none; one datum at a time, since float32 rounds differently in other company.

    Arguments:
        program: with methods model(x) and guide(x).
        x: data (N, *shape).

    Raises:
        FloatingPointError: log p(x) of a datum is not a number.
        ProgramError: the program breaks a rule.
        ValueError: there are no data; the program's own method gives other than one number a datum.

    Example:
        >>> from pplvm.programs.mixture import MixtureOfGaussians
        >>> found = log_evidence(MixtureOfGaussians(data_size=2, components=3), torch.zeros(5, 2))
        >>> found.how, found.log_p.shape
        ('3 states summed out', torch.Size([5]))
    """
    with frozen(program, x) as pair:
        known = getattr(program, "log_evidence", None)
        if callable(known):
            how, log_p = "in closed form", _by_method(known, x)
        elif (states := _states(pair, x)) is not None:
            how = f"{states:,} states summed out" if has_latents(pair, x) else "the program has no latents"
            log_p = torch.cat([_summed_out(pair, row) for row in x.split(1)])
        else:
            return None
    for number in log_p.isnan().nonzero()[:1].flatten().tolist():
        raise FloatingPointError(f"log p(x) of datum {number} is not a number: check it and the program's parameters")
    return Evidence(log_p, how)


def has_latents(pair: Pair, x: Tensor) -> bool:
    """Whether model or guide draw anything but the data."""
    drawn = pair.run_guide(1, (x[:1],), {})
    return bool(latents(drawn) or latents(pair.run_model(1, drawn, (x[:1],), {})))


def _by_method(known: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    at_once = max(1, BYTES // max(1, x[0].numel() * x.element_size()))
    found = []
    for rows in x.split(at_once):
        log_p = known(rows)
        if log_p.shape != (len(rows),):
            raise ValueError(f"log_evidence(x) of {len(rows)} data must be ({len(rows)},), got {tuple(log_p.shape)}")
        found.append(log_p.double().cpu())
    return torch.cat(found)  # (N,)


def _states(pair: Pair, x: Tensor) -> int | None:
    """Joint states of the latents of a datum; None if they are too many or continuous, or the joint no density."""
    trace = pair.run_model(1, pair.run_guide(1, (x[:1],), {}), (x[:1],), {})
    if unnormalised(sample_sites(trace), {}):
        return None
    states = latent_states(trace)
    return states if states is not None and states <= MOST_STATES else None


def _summed_out(pair: Pair, row: Tensor) -> Tensor:
    log_p, _ = enumerate_model(replace(pair, guide=None), None, 1, (row,), {})  # (1, 1)
    return log_p[0].double().cpu()
