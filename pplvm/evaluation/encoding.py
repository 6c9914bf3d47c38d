"""The codes of data, computed once: of each datum what its point posterior draws, and log p(x | codes)."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import torch
from pyro.poutine import Trace
from torch import Tensor, nn

from pplvm.batch import Batch, as_tuple, batch_rows
from pplvm.evaluation.per_datum import evaluation_mode
from pplvm.particles.contract import coordinates, deterministic_sites, latents, sample_sites
from pplvm.particles.enumeration import number_of_states
from pplvm.particles.flows import log_density
from pplvm.particles.pair import Pair
from pplvm.particles.point_masses import is_point

__all__ = ["Encoding", "code_sites", "encode", "why_not_encoded"]


@dataclass(frozen=True)
class Encoding:
    """The codes of N data and the terms of the bound that do not depend on the prior."""

    index: Tensor  # (N, sum of positions), the smallest integers that hold the codes, site after site
    terms: Tensor  # (N, 1 + penalties): log p(x | codes) in nats, then the guide's deterministic sites
    sites: dict[str, tuple[int, int]]  # positions and codes of each site, in the guide's order
    penalties: tuple[str, ...]  # names of the deterministic sites

    @property
    def bytes(self) -> int:
        """Of memory that it holds."""
        return self.index.nbytes + self.terms.nbytes


def code_sites(program: nn.Module, x: Batch) -> dict[str, tuple[int, int]]:
    """The latent sites of a program's model that are one-hots, (N, K) of each: positions and codes.

    Arguments:
        program: with methods model(x) and guide(x).
        x: data, of which the first is run.
    """
    with evaluation_mode(program, x) as pair:
        first = batch_rows(as_tuple(x), slice(1))
        return _code_sites(pair.run_model(1, pair.run_guide(1, first, {}), first, {}))


def _code_sites(model_trace: Trace) -> dict[str, tuple[int, int]]:
    found = {}
    for name, site in latents(model_trace).items():
        single, shape = coordinates(site["fn"]), site["fn"].event_shape
        if site["fn"].support.is_discrete and len(shape) > 1 and len(single.event_shape) in (1, len(shape)):
            if number_of_states(site["fn"]) == shape[-1]:
                found[name] = (shape[:-1].numel(), shape[-1])
    return found


def why_not_encoded(program: nn.Module, x: Batch) -> str:
    """Why codes and distortions of data are not constants of them; "" where they are.

    Arguments:
        program: with methods model(x) and guide(x).
        x: a batch of the data.
    """
    args = as_tuple(x)
    with evaluation_mode(program, x) as pair:
        drawn = pair.run_guide(1, args, {})
        sites = _code_sites(pair.run_model(1, drawn, args, {}))
        stochastic = [name for name in sites if not is_point(drawn.nodes[name]["fn"])]
        if not sites or stochastic:
            return f"the guide draws {stochastic[0]!r} anew in every step" if stochastic else "there are no codes"
        once, again = _encoded(pair, args, sites), _encoded(pair, args, sites)
    if not all(torch.equal(a, b) for a, b in zip(once, again, strict=True)):
        return "encoder or decoder are random"
    return ""


def encode(program: nn.Module, batches: Iterator[Batch]) -> Encoding:
    """Encode data in evaluation mode, without gradient.

    Arguments:
        program: one for which `why_not_encoded` has nothing to say.
        batches: x (B, *shape) or (x, y, ...) each.

    Raises:
        ValueError: there are no data.

    Example:
        >>> from pplvm.programs.vq_vae import vq_vae
        >>> found = encode(vq_vae(64, grid=(2, 2), num_codes=16), iter([torch.zeros(3, 64)]))
        >>> found.index.dtype, found.index.shape, found.sites, found.penalties
        (torch.uint8, torch.Size([3, 4]), {'codes': (4, 16)}, ('commitment', 'codebook'))
    """
    first = next(batches, None)
    if first is None:
        raise ValueError("there are no data to encode: give at least one batch")
    with evaluation_mode(program, first) as pair:
        drawn = pair.run_guide(1, as_tuple(first), {})
        sites = _code_sites(pair.run_model(1, drawn, as_tuple(first), {}))
        penalties = tuple(deterministic_sites(drawn))
        found = [_encoded(pair, as_tuple(x), sites) for x in chain([first], batches)]
    index, terms = (torch.cat(parts) for parts in zip(*found, strict=True))
    return Encoding(index, terms, sites, penalties)


def _encoded(pair: Pair, args: tuple[Tensor, ...], sites: dict[str, tuple[int, int]]) -> tuple[Tensor, Tensor]:
    drawn = pair.run_guide(1, args, {})
    model = pair.run_model(1, drawn, args, {})
    B = len(args[0])
    index = torch.cat([drawn.nodes[name]["value"].argmax(-1).reshape(B, -1) for name in sites], 1)
    most = max(codes for _, codes in sites.values()) - 1
    kind = next(kind for kind in (torch.uint8, torch.int16, torch.int32) if most <= torch.iinfo(kind).max)
    observed = [site for site in sample_sites(model).values() if site["is_observed"]]
    log_p = torch.stack([pair.per_datum(log_density(site)) for site in observed]).sum(0)
    penalties = [site["value"].reshape(B) for site in deterministic_sites(drawn).values()]
    return index.to(kind), torch.stack([log_p, *penalties], 1)
