"""Pyro's ELBOs with a `loss_and_grads` of their own (TraceGraph_ELBO, RenyiELBO, ReweightedWakeSleep) in a `Loss`.

Trace_ELBO, TraceMeanField_ELBO and TraceEnum_ELBO need no adapter: `Loss(Trace_ELBO(), program)`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from pyro.infer import ELBO, RenyiELBO, ReweightedWakeSleep, TraceGraph_ELBO
from pyro.poutine import Trace
from pyro.poutine.messenger import Messenger
from torch import Tensor, nn

from pplvm.bounds import elbo, iwae, renyi
from pplvm.objectives.estimate import ObjectiveError
from pplvm.objectives.latents_without_guide import why_latents_are_wrong
from pplvm.objectives.pyro_elbos import register_with_pyro
from pplvm.objectives.targets import WAKE_SLEEP, Tabulated
from pplvm.particles.contract import ProgramError, latents, sample_sites
from pplvm.particles.dreams import require_dreams, steps_of
from pplvm.particles.pair import Pair, inspect_pair, owners, pair_up
from pplvm.particles.reparameterized_sites import is_reparameterized
from pplvm.particles.side_effects import updating_buffers_once
from pplvm.particles.supports import narrower

__all__ = ["PyroObjective"]


class PyroObjective(ELBO):
    """A Pyro ELBO as a differentiable loss whose gradient equals, to the bit, that of `loss_and_grads`.

        loss = value + sum_p (p * g_p - stop(p * g_p)),     g_p = Pyro's gradient of parameter p

    Pyro reads the host at every site; so does this.

    What they compute (Pyro 1.9.2):
        TraceGraph_ELBO        the elbo, unbiased.
        RenyiELBO(alpha)       the Renyi bound; its gradient is right for reparameterized guides only (at a
                               discrete site it is the limit of many particles, zero at alpha = 0), and its
                               value is no bound under a subsampled plate, whose N/B enters the logarithm.
        ReweightedWakeSleep    the batch as one datum with one weight a particle, not a weight per datum; for
                               programs with one observed site.

    Arguments:
        objective: the Pyro ELBO.
        allow_biased: measure a combination that is known to be biased instead of refusing it.

    Raises:
        ObjectiveError: at construction, the ELBO is of another kind; on the first batch, the combination of
            ELBO and program is biased as listed and `allow_biased` is off.

    Example:
        >>> objective = PyroObjective(TraceGraph_ELBO(num_particles=10, vectorize_particles=True))
    """

    def __init__(self, objective: ELBO, allow_biased: bool = False) -> None:
        if not isinstance(objective, TraceGraph_ELBO | RenyiELBO | ReweightedWakeSleep):
            raise ObjectiveError(
                f"PyroObjective adapts TraceGraph_ELBO, RenyiELBO and ReweightedWakeSleep, not "
                f"{type(objective).__name__}; ELBOs with differentiable_loss go into Loss as they are"
            )
        super().__init__(num_particles=objective.num_particles)
        self.objective, self.allow_biased = objective, allow_biased
        self._programs: tuple[Any, Any] | None = None
        self._checked: set[frozenset] = set()

    @property
    def target(self) -> Callable[[Tensor], Tensor] | Tabulated:
        if isinstance(self.objective, RenyiELBO):
            return iwae if self.objective.alpha == 0 else renyi(self.objective.alpha)
        return WAKE_SLEEP if isinstance(self.objective, ReweightedWakeSleep) else elbo

    def differentiable_loss(
        self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Tensor:
        if self._programs != (model, guide):
            self._refuse_biased(model, guide, args, kwargs)
            self._programs, self._checked = (model, guide), set()
        with _Sites() as sites:
            loss = self._loss(model, guide, args, kwargs)
        if (found := frozenset(sites.found)) not in self._checked:
            self._refuse_biased(model, guide, args, kwargs)
            self._checked.add(found)
        return loss

    def _loss(self, model: Callable[..., Any], guide: Callable[..., Any], args: tuple, kwargs: dict) -> Tensor:
        run = _taking_observations(guide) if isinstance(self.objective, ReweightedWakeSleep) else guide
        modules = owners(model, guide)
        model, run = updating_buffers_once(model, modules), updating_buffers_once(run, modules)
        if not torch.is_grad_enabled():
            with _flows_in_words(self.objective):
                value = _first(self.objective.loss(model, run, *args, **kwargs))
            return torch.tensor(value, device=next((x.device for x in args if isinstance(x, Tensor)), None))
        parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
        value, gradients = self._run(parameters, model, _announcing(run, modules), args, kwargs)
        surrogate = sum((p * g).sum() for p, g in zip(parameters, gradients, strict=True) if g is not None)
        return value + (surrogate - surrogate.detach()) if isinstance(surrogate, Tensor) else value

    def loss(self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any) -> float:
        with torch.no_grad():
            return self.differentiable_loss(model, guide, *args, **kwargs).item()

    def loss_and_grads(self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any) -> float:
        loss = self.differentiable_loss(model, guide, *args, **kwargs)
        if loss.requires_grad:
            loss.backward()
        return loss.item()

    def _run(
        self,
        parameters: list[Tensor],
        model: Callable[..., Any],
        guide: Callable[..., Any],
        args: tuple,
        kwargs: dict,
    ) -> tuple[Tensor, list[Tensor | None]]:
        kept = [p.grad for p in parameters]
        for p in parameters:
            p.grad = None
        try:
            with _flows_in_words(self.objective):
                value = _first(self.objective.loss_and_grads(model, guide, *args, **dict(kwargs)))
            gradients = [p.grad for p in parameters]
        finally:
            for p, grad in zip(parameters, kept, strict=True):
                p.grad = grad
        like = parameters[0] if parameters else args[0]
        return torch.tensor(value, dtype=like.dtype, device=like.device), gradients

    def _refuse_biased(self, model: Callable[..., Any], guide: Callable[..., Any], args: tuple, kwargs: dict) -> None:
        model_trace, guide_trace, _ = inspect_pair(model, guide, args, kwargs)
        if fault := why_latents_are_wrong(self.objective, model_trace, guide_trace):
            raise ObjectiveError(fault)
        if isinstance(self.objective, ReweightedWakeSleep) and not (guide_trace and latents(guide_trace)):
            raise ObjectiveError("Pyro's ReweightedWakeSleep has no loss for a program without latents: use Pathwise")
        if self.allow_biased:
            return
        for why in _biases(self.objective, model_trace, guide_trace):
            raise ObjectiveError(f"Pyro's {type(self.objective).__name__} {why}, or pass allow_biased=True")
        if isinstance(self.objective, ReweightedWakeSleep) and self.objective.insomnia < 1:
            for narrow in narrower(latents(model_trace), latents(guide_trace)).values():
                raise ObjectiveError(f"Pyro's ReweightedWakeSleep: {narrow}, so that it gives other dreams no density")
            self._require_dreams(pair_up(model, guide, args, kwargs), args, kwargs)

    def _require_dreams(self, pair: Pair, args: tuple, kwargs: dict) -> None:
        if steps_of(pair) is not None:
            raise ObjectiveError(
                "Pyro's ReweightedWakeSleep dreams in one run, not value by value: use pplvm's, "
                f"ReweightedWakeSleep({self.num_particles}, insomnia={self.objective.insomnia:g})"
            )
        try:
            require_dreams(pair, args, kwargs)
        except ProgramError as fault:
            raise ObjectiveError(f"Pyro's ReweightedWakeSleep: {fault}, or insomnia=1, which does not dream") from fault

    def _get_trace(
        self, model: Callable[..., Any], guide: Callable[..., Any], args: tuple, kwargs: dict
    ) -> tuple[Trace, Trace]:
        return self.objective._get_trace(model, guide, args, kwargs)


@contextmanager
def _flows_in_words(objective: ELBO) -> Iterator[None]:
    """Explain the error of Pyro's flows without an inverse at a value that is not their last draw."""
    try:
        yield
    except KeyError as error:
        if "intermediates cache" not in str(error):
            raise
        raise ObjectiveError(
            f"Pyro's {type(objective).__name__} needs the density of values that a flow has not just drawn: use "
            "transforms with an inverse, as spline and affine flows have"
        ) from error


def _biases(objective: ELBO, model_trace: Trace, guide_trace: Trace | None) -> list[str]:
    found = []
    drawn = latents(guide_trace) if guide_trace is not None else {}
    for name, site in drawn.items():
        if site["fn"].has_rsample and not is_reparameterized(site["fn"]):
            found.append(
                f"takes the straight-through gradient of discrete guide site {name!r} for that of its density: use "
                "LeaveOneOut"
            )
    if isinstance(objective, TraceGraph_ELBO):
        return found
    if isinstance(objective, RenyiELBO):
        for name, site in drawn.items():
            if not is_reparameterized(site["fn"]):
                found.append(
                    f"gives the discrete guide site {name!r} a wrong gradient: use LeaveOneOut(renyi(alpha), K)"
                )
        for name, site in sample_sites(model_trace).items():
            if isinstance(site["scale"], Tensor) or site["scale"] != 1.0:
                found.append(f"puts the scale of site {name!r} inside the logarithm: use Pathwise(renyi(alpha), K)")
    else:
        batch = max((f.size for s in drawn.values() for f in s["cond_indep_stack"] if f.dim == -1), default=1)
        if batch > 1:
            found.append(f"weights the batch of {batch} jointly, as one datum: pass one datum at a time")
    return found


class _Sites(Messenger):
    """A Pyro messenger that notes what `_biases` needs of each site."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[tuple[Any, ...]] = set()

    def _pyro_post_sample(self, msg: Any) -> None:
        scale = "tensor" if isinstance(msg["scale"], Tensor) else msg["scale"]
        rows = tuple(frame.size for frame in msg["cond_indep_stack"] if frame.dim == -1)
        self.found.add((msg["name"], msg["is_observed"], type(msg["fn"]), scale, rows))


def _announcing(guide: Callable[..., Any], modules: list[nn.Module]) -> Callable[..., Any]:
    """A guide with param sites, without which Pyro's RenyiELBO gives no gradient and SVI takes no step."""

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        register_with_pyro(modules)
        return guide(*args, **kwargs)

    return wrapped


def _taking_observations(guide: Callable[..., Any]) -> Callable[..., Any]:
    """A guide as Pyro's sleep phase calls it, with the dreamt data as keyword arguments beside the data."""

    def wrapped(x: Tensor, *args: Any, observations: dict[str, Tensor] | None = None, **kwargs: Any) -> Any:
        if observations:
            if len(observations) > 1:
                raise ObjectiveError(f"ReweightedWakeSleep: more than one observed site: {sorted(observations)}")
            x = next(iter(observations.values()))
        return guide(x, *args, **kwargs)

    return wrapped


def _first(value: float | tuple[float, float]) -> float:
    value = value[0] if isinstance(value, tuple) else value
    return value.item() if isinstance(value, Tensor) else float(value)
