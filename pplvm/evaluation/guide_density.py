"""Log q(z_i | x_j) of fixed draws under the guide at other data, in blocks (draws, data), in float64.

The guide is replayed on a block of data, (J, ...), with held draws of shape (I, 1, ...), so that its first layer runs
once a datum, not once a pair. A guide that cannot broadcast the two gets the draws as particles, (I, J, ...).
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from pyro import poutine
from pyro.poutine import Trace
from torch import Tensor
from torch.distributions import Bernoulli, Distribution, Normal
from torch.nn.functional import softplus
from torch.utils.flop_counter import FlopCounterMode

from pplvm.batch import Batch, as_tuple, batch_rows
from pplvm.particles.contract import Site, latents, sample_sites
from pplvm.particles.enumeration import coordinates
from pplvm.particles.factors import is_factor
from pplvm.particles.masks import is_masked
from pplvm.particles.pair import Pair
from pplvm.particles.point_masses import is_point, point_in_words
from pplvm.particles.vectorization_check import raise_program_error, why_particles_interact

__all__ = [
    "FixedDraws",
    "density_error_message",
    "log_q_blocks",
    "log_q_of_others",
    "operations_a_pair",
    "require_guide_density",
]

BLOCK_BYTES = 2**20
"""Of the largest tensor of a block: what a core's cache holds, beyond which the same arithmetic takes four times as
long."""

DATA_AT_ONCE = 256
"""Data whose guides are run at once."""

LARGEST_SQUARE = 1e8
"""Of a standardized draw: beyond this, products of draws and parameters lose what their sum should keep."""

PARAMETERS = {Normal.log_prob: ("loc", "scale"), Bernoulli.log_prob: ("logits",)}
"""Of the distributions whose log densities are linear in functions of the draw, found by the method they inherit."""


@dataclass(frozen=True)
class FixedDraws:
    """R fixed draws of all latents of a guide, without the data that they were drawn for."""

    sites: dict[str, Site]  # of one run of the guide, in its order
    values: dict[str, Tensor]  # each (R, nested plates..., 1, event...)

    @classmethod
    def of(cls, pair: Pair, traces: Iterable[Trace]) -> "FixedDraws":
        """All draws of traces, those of one datum next to each other."""
        found = [latents(trace) for trace in traces]
        return cls(found[0], {name: torch.cat([_held(pair, drawn[name]) for drawn in found]) for name in found[0]})

    def __len__(self) -> int:
        return len(next(iter(self.values.values())))

    def __getitem__(self, rows: slice) -> "FixedDraws":
        return FixedDraws(self.sites, {name: value[rows] for name, value in self.values.items()})

    def trace(self) -> Trace:
        """A trace for `poutine.replay`."""
        trace = Trace()
        for name, site in self.sites.items():
            trace.nodes[name] = dict(site, value=self.values[name])
        return trace

    def beside(self, pair: Pair, size: int) -> "FixedDraws":
        """The draws as particles of `size` data, (I, nested plates..., J, event...), as the guide draws them."""
        wide = {
            n: v.expand(*v.shape[: pair.nesting], size, *v.shape[pair.nesting + 1 :]) for n, v in self.values.items()
        }
        return FixedDraws(self.sites, wide if len(self) > 1 else {name: value[0] for name, value in wide.items()})


@dataclass(frozen=True)
class _Way:
    """How draws are paired with data, and the memory that one pair takes."""

    broadcast: bool
    reusable: bool  # the guide's distributions do not depend on draws, so that one run serves all of them
    bytes_a_pair: int


def log_q_blocks(pair: Pair, held: FixedDraws, x: Batch) -> Iterator[tuple[slice, slice, Tensor]]:
    """Log q(z_i | x_j) of every pair, block by block: draws, data, and (I, J) in float64.

    Arguments:
        held: R draws from a guide that `require_guide_density` passed.
        x: data (M, ...), with their conditions if they have any.

    Raises:
        ValueError: a site of the guide has no density but at its own draws.
    """
    parts = as_tuple(x)
    way = _way(pair, held, parts)
    for data in _slices(len(parts[0]), DATA_AT_ONCE):
        rows_at_once = max(1, BLOCK_BYTES // (way.bytes_a_pair * (data.stop - data.start)))
        trace = None
        for rows in _slices(len(held), rows_at_once):
            draws = held[rows]
            if trace is None or not way.reusable:
                trace = _run(pair, draws, batch_rows(parts, data), way.broadcast)
            yield rows, data, _log_q(pair, trace, draws, data.stop - data.start, way.broadcast)


def log_q_of_others(pair: Pair, held: FixedDraws, x: Batch, own: Tensor) -> Tensor:
    """Log sum_j q(z_r | x_j) over all data but the draw's own, (R,) in float64; -inf for a single datum.

    Arguments:
        held: R draws.
        x: data (M, ...), with their conditions if they have any.
        own: (R,), the place in x of the datum that gave the draw; -1 where it is none of them.
    """
    device = as_tuple(x)[0].device
    total = torch.full((len(held),), -math.inf, dtype=torch.float64, device=device)
    for rows, data, block in log_q_blocks(pair, held, x):
        places = torch.arange(data.start, data.stop, device=device)
        others = block.masked_fill(own[rows].unsqueeze(1) == places, -math.inf)
        total[rows] = torch.logaddexp(total[rows], others.logsumexp(1))
    return total


def operations_a_pair(pair: Pair, x: Batch) -> float:
    """Operations that log q(z_i | x_j) of one more draw takes for each datum, beyond what runs once a datum.

    Those of matrix products and convolutions, two for each product of numbers; 0 where networks run once a datum.

    Arguments:
        x: data, of which the first is run.

    Raises:
        ValueError: a site of the guide has no density but at its own draws.
    """
    first = batch_rows(as_tuple(x), slice(1))
    held, counted = FixedDraws.of(pair, [pair.run_guide(4, first, {})]), []
    for size in (2, 4):
        with FlopCounterMode(display=False) as counter:
            try:
                _as_particles(pair, held[:size], first)
            except (KeyError, NotImplementedError, RuntimeError) as error:
                raise density_error_message(error) from error
        counted.append(counter.get_total_flops())
    return (counted[1] - counted[0]) / 2


def require_guide_density(name: str, pair: Pair, x: Batch) -> None:
    """Refuse programs whose q(z | x) is not the product of the guide's sites.

    Arguments:
        name: of the evaluation, for the message.
        x: data, of which the first is run.

    Raises:
        ValueError: there is no latent, or one is a point mass, masked, or in the guide alone; the guide holds a factor.
    """
    first = batch_rows(as_tuple(x), slice(1))
    guide_trace = pair.run_guide(1, first, {})
    if not latents(guide_trace):
        raise ValueError(f"{name} asks what latents tell of data, and the program has none")
    model_sites = latents(pair.run_model(1, guide_trace, first, {}))
    for site_name, site in sample_sites(guide_trace).items():
        if is_factor(site):
            raise ValueError(
                f"{name} needs log q(z | x), but guide site {site_name!r} is a factor, which belongs to no draw: give "
                "the latent's distribution itself"
            )
        if site_name not in model_sites:
            raise ValueError(
                f"{name} needs log q(z | x), which auxiliary guide site {site_name!r} leaves without a closed form: "
                "remove the site, or make it a latent of the model"
            )
        if is_point(site["fn"]):
            told = f"guide site {site_name!r} is {point_in_words(site['fn'])}"
            raise ValueError(
                f"{name} needs the density of every draw, but {told}, which has none: use a "
                "OneHotCategorical for a choice among codes, or a Normal of small scale"
            )
        if is_masked(site) or is_masked(model_sites[site_name]):
            raise ValueError(
                f"{name} needs the density of every draw, but site {site_name!r} is masked, which hides it: draw only "
                "what every datum has"
            )


def density_error_message(error: Exception) -> ValueError:
    """What an error of the guide means when fixed draws are replayed in it."""
    said = " ".join(map(str, error.args)) or type(error).__name__
    return ValueError(
        f"the guide gives no density to draws that are not its own ({said}): use transforms with an inverse"
    )


def _held(pair: Pair, site: Site) -> Tensor:
    """A site's draws (K, nested plates..., B, event...) as (B K, nested plates..., 1, event...)."""
    value, batch_dims = site["value"], site["value"].dim() - site["fn"].event_dim
    value = value.reshape(*[1] * (pair.nesting + 1 - batch_dims), *value.shape)
    return value.movedim(pair.nesting, 0).flatten(0, 1).unsqueeze(pair.nesting)


def _slices(total: int, most: int) -> list[slice]:
    return [slice(start, min(start + most, total)) for start in range(0, total, most)]


def _way(pair: Pair, held: FixedDraws, parts: tuple[Tensor, ...]) -> _Way:
    """Broadcast draws against data if that agrees with single pairs on a few of them; else use particles."""
    few, x = held[:4], batch_rows(parts, slice(3))
    numbers = [value[0].numel() for value in held.values.values()]
    size = max(value.element_size() for value in held.values.values())
    try:
        truth = torch.cat([_as_particles(pair, few[place : place + 1], x) for place in range(len(few))])
    except (KeyError, NotImplementedError, RuntimeError) as error:
        raise density_error_message(error) from error
    try:
        trace = _run(pair, few, x, broadcast=True)
        found = _log_q(pair, trace, few, len(x[0]), broadcast=True)
    except (RuntimeError, ValueError, IndexError):  # the guide's code, which may join x and z as it likes
        found = None
    if found is None or found.shape != truth.shape or not torch.allclose(found, truth, rtol=1e-4, atol=1e-4):
        raise_program_error(why_particles_interact(pair, x, {}))
        return _Way(False, False, size * max(*numbers, x[0][0].numel()))
    fns = {name: trace.nodes[name]["fn"] for name in held.sites}
    reusable = all(len(fn.batch_shape) <= pair.nesting for fn in fns.values())
    quick = all(_quick_log_prob(fn, few.values[name]) is not None for name, fn in fns.items())
    return _Way(True, reusable, 8 if quick else size * max(numbers))


def _as_particles(pair: Pair, held: FixedDraws, x: tuple[Tensor, ...]) -> Tensor:
    """Log q of every pair with the draws as particles: (I, J)."""
    return _log_q(pair, _run(pair, held, x, broadcast=False), held, len(x[0]), broadcast=False)


def _run(pair: Pair, held: FixedDraws, x: Batch, broadcast: bool) -> Trace:
    args = as_tuple(x)
    drawn = held if broadcast else held.beside(pair, len(args[0]))
    return pair.run(poutine.replay(pair.guide, trace=drawn.trace()), 1 if broadcast else len(held), args, {})


def _log_q(pair: Pair, trace: Trace, held: FixedDraws, size: int, broadcast: bool) -> Tensor:
    """The guide's log-density of every pair, (I, J), its sites summed in float64."""
    drawn = held if broadcast else held.beside(pair, size)
    total = torch.zeros(len(held), size, dtype=torch.float64, device=next(iter(held.values.values())).device)
    for name, value in drawn.values.items():
        fn = trace.nodes[name]["fn"]
        quick = _quick_log_prob(fn, value) if broadcast else None
        total += pair.per_datum(fn.log_prob(value)).double() if quick is None else quick
    return total


def _quick_log_prob(fn: Distribution, value: Tensor) -> Tensor | None:
    """Log-densities (I, J) by a matrix product, or None; (I, 1) where the datum does not matter.

    Arguments:
        fn: of batch shape (J,), or (I, J) where it depends on earlier draws.
        value: (I, 1, event...).
    """
    single, batch = coordinates(fn), tuple(fn.batch_shape)
    names = PARAMETERS.get(type(single).log_prob)
    if names is None or value.dim() - len(fn.event_shape) != 2:
        return None
    parameters = {name: getattr(single, name).expand(*batch, *fn.event_shape) for name in names}
    if len(batch) == 1:
        rows = (tensor.reshape(len(tensor), -1).double() for tensor in (value, *parameters.values()))
        return _normal(*rows) if "loc" in names else _bernoulli(*rows)
    if any(parameter.stride(1) for parameter in parameters.values()):
        return None
    alone = type(single)(**{name: p[:, :1] for name, p in parameters.items()}, validate_args=False)
    return alone.log_prob(value).double().flatten(1).sum(1, keepdim=True)


def _normal(z: Tensor, loc: Tensor, scale: Tensor) -> Tensor | None:
    """-(z - loc)^2 / (2 scale^2) - log scale - log sqrt(2 pi), about a common centre, as a product of matrices."""
    centre = loc.mean(0)
    z, loc = z - centre, loc - centre
    if bool(torch.maximum(z.abs().max(), loc.abs().max()) > LARGEST_SQUARE**0.5 * scale.min()):
        return None
    square = -0.5 / scale.square()
    rest = (square * loc.square() - scale.log() - 0.5 * math.log(2 * math.pi)).sum(1)
    return z.square() @ square.T + z @ (-2 * square * loc).T + rest


def _bernoulli(z: Tensor, logits: Tensor) -> Tensor | None:
    """z logits - log(1 + exp(logits)), as a product of matrices."""
    return z @ logits.T - softplus(logits).sum(1) if bool(logits.isfinite().all()) else None
