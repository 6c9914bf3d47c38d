"""Lower bounds on mutual information with the guide as critic, for the model's joint and for data.

Barber-Agakov   I_p(x; z) >= H(z) + E_p log q(z | x),              short by E_p KL(p(z | x) || q(z | x))
InfoNCE         I(x; z)   >= E log q(z_i | x_i) - log 1/N sum_j q(z_i | x_j),             at most log N
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from pyro import poutine
from pyro.poutine import Trace
from torch import Tensor, nn

from pplvm.batch import Batch, as_tuple, batch_rows
from pplvm.evaluation.figures import Figure, mean_of
from pplvm.evaluation.guide_density import FixedDraws, density_error_message, log_q_of_others, require_guide_density
from pplvm.evaluation.likelihood_names import LikelihoodNames, likelihood_names
from pplvm.evaluation.per_datum import Seed, cycle_conditions, datum_seeds, each_datum, evaluation_mode
from pplvm.particles.contract import ProgramError, latents
from pplvm.particles.dreams import dream, require_dreams
from pplvm.particles.pair import Pair
from pplvm.particles.supports import narrower

__all__ = ["BarberAgakov", "InfoNCE", "barber_agakov", "info_nce", "info_nce_of_dreams"]

DREAMS_AT_ONCE = 500
"""Dreamt in one run; a constant, since the draws depend on it."""


@dataclass(frozen=True)
class BarberAgakov:
    """The bound's terms at draws of the model's joint, in nats, each (T,) in float64."""

    entropy: Tensor  # H(z), site by site given the sites above: its mean is that of the joint latent
    log_q: Tensor  # log q(z | x)
    exact_entropy: bool  # whether H(z) is known, the same at every draw
    names: LikelihoodNames = LikelihoodNames()  # what is given: the entropy is then H(z | y)

    @property
    def figures(self) -> list[Figure]:
        """The bound and its two terms."""
        closed = "closed form" if self.exact_entropy else "from the same draws"
        name = f"H(z{self.names.kept})"
        note = f"lower bound on the model's joint, not on data; {name} {closed}"
        entropy = mean_of(name, self.entropy, note=closed)
        return [
            mean_of(f"Barber-Agakov I_p(x; z{self.names.kept})", self.entropy + self.log_q, note=note),
            Figure(name, entropy.value, None, "nats", closed) if self.exact_entropy else entropy,
            mean_of(f"E_p log q(z | {self.names.datum})", self.log_q),
        ]


@dataclass(frozen=True)
class InfoNCE:
    """The bound's terms of each batch, in nats."""

    information: Tensor  # (batches, N) in float64, at most log N each
    joint: str  # "q", the guide's on data, or "p", the model's
    names: LikelihoodNames = LikelihoodNames()  # what latents tell of

    @property
    def figures(self) -> list[Figure]:
        """The bound; its error is over batches, since the terms within a batch are dependent."""
        batches, N = self.information.shape
        where = "data" if self.joint == "q" else "the model's joint"
        most = f"at most log N = {math.log(N):.2f}, whatever I({self.names.datum}; z) is"
        note = f"lower bound on {where}, {batches:,} batches of {N:,}: {most}"
        return [mean_of(f"InfoNCE I_{self.joint}({self.names.datum}; z)", self.information.mean(1), note=note)]


def barber_agakov(program: nn.Module, like: Batch, *, draws: int = 10_000, seed: int = 0) -> BarberAgakov:
    """The Barber-Agakov bound on I(x; z) of the model's joint, with the guide as decoder from x to z.

        I_p(x; z) = H(z) - H_p(z | x) >= H(z) + E_p log q(z | x),     (z, x) ~ p

    The sleep phase of wake-sleep climbs the second term. A site without a closed entropy counts -log p(z) at the draw.

    Arguments:
        program: with methods model(x) and guide(x), or model(x, y) and guide(x, y) of conditions.
        like: data (N, ...), of which only shape and type count; with conditions, (x, y), draw t is from the joint given
            those of datum t, read or observed, counted on from the first again, and the bound is on I_p(x; z | y).
        draws: T, from the model's joint.
        seed: of the draws.

    Raises:
        ProgramError: the program breaks a rule.
        ValueError: draws is below 2; a latent is a point mass, masked or auxiliary; the model observes more than one
            site, or one that is not the data.

    Example:
        >>> from pplvm.programs.vae import VAE
        >>> found = barber_agakov(VAE(8, 2), torch.zeros(1, 8), draws=100)
        >>> found.exact_entropy, round(float(found.entropy[0]), 2)
        (True, 2.84)

    References:
        Barber and Agakov, The IM algorithm: a variational approach to information maximization, 2003
    """
    if not isinstance(draws, int) or draws < 2:
        raise ValueError(f"barber_agakov: draws must be an integer of at least 2, got {draws!r}")
    with evaluation_mode(program, like) as pair:
        _require_dreams("barber_agakov", pair, like)
        torch.manual_seed(seed)
        parts, starts = as_tuple(like), range(0, draws, DREAMS_AT_ONCE)
        numbers = (range(start, min(start + DREAMS_AT_ONCE, draws)) for start in starts)
        found = [_entropy_and_log_q(pair, parts, each) for each in numbers]
        names = likelihood_names(pair, like)
    entropy, log_q = torch.cat(found, 1).cpu()
    return BarberAgakov(entropy, log_q, bool(torch.allclose(entropy, entropy[0], rtol=1e-6, atol=1e-9)), names)


def info_nce(program: nn.Module, x: Batch, *, batch: int = 100, seed: int = 0) -> InfoNCE:
    """InfoNCE (contrastive predictive coding) on data, z_i ~ q(z | x_i), with the optimal critic q(z | x).

    Each draw must tell its own datum from the others of its batch, the bound of `aggregate_posterior` with M = batch.
    Batches are filled in an order that the data's values decide; those left over fill none.

    Arguments:
        program: with methods model(x) and guide(x), or model(x, y) and guide(x, y) of conditions.
        x: data (M, ...), or data and their conditions (x, y), all of them: parts evaluated apart would fill other
            batches.
        batch: N, at least 2 and at most M.
        seed: of the draws and the batches.

    Raises:
        ProgramError: the program breaks a rule.
        ValueError: batch is below 2 or above M; a latent is a point mass, masked or auxiliary.

    Example:
        >>> from pplvm.programs.vae import VAE
        >>> print(info_nce(VAE(8, 2), torch.eye(8), batch=4).figures[0].note)
        lower bound on data, 2 batches of 4: at most log N = 1.39, whatever I(x; z) is

    References:
        van den Oord, Li and Vinyals, Representation learning with contrastive predictive coding, 2018,
        arXiv:1807.03748
    """
    parts = as_tuple(x)
    _require_batch("info_nce", batch, len(parts[0]))
    with evaluation_mode(program, x) as pair:
        require_guide_density("info_nce", pair, x)
        seeds = datum_seeds(x, seed)
        order = sorted(range(len(seeds)), key=seeds.__getitem__)
        batches = [order[start : start + batch] for start in range(0, len(seeds) - batch + 1, batch)]
        found = []
        for rows in batches:
            chosen = tuple(part[rows] for part in parts)
            found.append(_contrast(pair, chosen, _drawn(pair, chosen, [seeds[row] for row in rows])))
        names = likelihood_names(pair, x)
    return InfoNCE(torch.stack(found).cpu(), "q", names)


def info_nce_of_dreams(
    program: nn.Module, like: Batch, *, batch: int = 100, batches: int = 100, seed: int = 0
) -> InfoNCE:
    """InfoNCE on the model's own joint, (z_i, x_i) ~ p, with the guide's q(z | x) as critic.

    The best critic is p(z | x) times any function of z; unlike Barber-Agakov it needs no H(z), but is capped.

    Arguments:
        program: with methods model(x) and guide(x), or model(x, y) and guide(x, y) of conditions.
        like: data (M, ...), of which only shape and type count; with conditions, (x, y), dream n is given those of
            datum n, counted on from the first again.
        batch: N, at least 2.
        batches: dreamt, at least 1.
        seed: of the draws.

    Raises:
        ProgramError: the program breaks a rule.
        ValueError: as `info_nce` and `barber_agakov`.

    Example:
        >>> from pplvm.programs.vae import VAE
        >>> info_nce_of_dreams(VAE(8, 2), torch.zeros(1, 8), batch=4, batches=3).information.shape
        torch.Size([3, 4])

    References:
        van den Oord, Li and Vinyals, Representation learning with contrastive predictive coding, 2018,
        arXiv:1807.03748
    """
    _require_batch("info_nce_of_dreams", batch, batch)
    if not isinstance(batches, int) or batches < 1:
        raise ValueError(f"info_nce_of_dreams: batches must be an integer of at least 1, got {batches!r}")
    with evaluation_mode(program, like) as pair:
        _require_dreams("info_nce_of_dreams", pair, like)
        torch.manual_seed(seed)
        found = []
        for number in range(batches):
            _, guide_trace, dreamt = _dreamt(pair, as_tuple(like), range(number * batch, (number + 1) * batch))
            found.append(_contrast(pair, dreamt, iter([guide_trace])))
        names = likelihood_names(pair, like)
    return InfoNCE(torch.stack(found).cpu(), "p", names)


def _require_batch(name: str, batch: int, most: int) -> None:
    if not isinstance(batch, int) or not 2 <= batch <= most:
        limit = "" if batch == most else f" and at most {most}, the data given"
        raise ValueError(f"{name}: batch must be an integer of at least 2{limit}, got {batch!r}")


def _require_dreams(name: str, pair: Pair, like: Batch) -> None:
    require_guide_density(name, pair, like)
    first = batch_rows(as_tuple(like), slice(1))
    drawn = pair.run_guide(1, first, {})
    for narrow in narrower(latents(pair.run_model(1, drawn, first, {})), latents(drawn)).values():
        raise ValueError(f"{name}: {narrow}, so that it gives other dreams no density")
    try:
        require_dreams(pair, first, {})
    except ProgramError as fault:
        raise ValueError(f"{name}: {fault}") from fault


def _dreamt(pair: Pair, like: tuple[Tensor, ...], numbers: range) -> tuple[Trace, Trace, tuple[Tensor, ...]]:
    """Draw data from the model: its trace, the guide's at the same latents, the data and their conditions."""
    given = cycle_conditions(like, numbers)
    dreamt, x = dream(pair, given, {})
    args = x, *given[1:]
    return dreamt, pair.run(poutine.replay(pair.guide, trace=dreamt), 1, args, {}), args


def _drawn(pair: Pair, x: Batch, seed: Seed) -> Iterator[Trace]:
    for row in each_datum(x, seed):
        yield pair.run_guide(1, as_tuple(row), {})


def _entropy_and_log_q(pair: Pair, like: tuple[Tensor, ...], numbers: range) -> Tensor:
    """(2, T)."""
    dreamt, guide_trace, _ = _dreamt(pair, like, numbers)
    log_p = pair.log_probs(dreamt, 1)
    entropy = torch.zeros(1, len(numbers), dtype=torch.float64, device=like[0].device)
    for name in latents(guide_trace):
        try:
            known = pair.per_datum(dreamt.nodes[name]["fn"].entropy())
        except NotImplementedError:
            known = -log_p[name]
        entropy = entropy + known.double()
    return torch.cat([entropy, _log_q(pair, guide_trace)])


def _log_q(pair: Pair, guide_trace: Trace) -> Tensor:
    """(1, B), in float64."""
    try:
        return torch.stack([term.double() for term in pair.log_probs(guide_trace, 1).values()]).sum(0)
    except (KeyError, NotImplementedError, RuntimeError) as error:  # of flows, each in its own words
        raise density_error_message(error) from error


def _contrast(pair: Pair, x: tuple[Tensor, ...], traces: Iterator[Trace]) -> Tensor:
    """Log q(z_i | x_i) - log 1/N sum_j q(z_i | x_j), own datum included, hence at most log N: (N,)."""
    drawn = list(traces)
    log_q = torch.cat([_log_q(pair, trace) for trace in drawn], 1)[0]
    others = log_q_of_others(pair, FixedDraws.of(pair, drawn), x, torch.arange(len(x[0]), device=x[0].device))
    return log_q - torch.logaddexp(others, log_q) + math.log(len(x[0]))
