"""Finds the observed sites of a model that hold conditions (labels observed where known) and not data.

Conditions are given to a program beside its data, model(x, y). Most models only read them, p(x | y). One that observes
them too, as a semi-supervised one observes the labels that are known, has a density of both, p(x, y).
"""

import torch
from pyro import poutine
from pyro.ops.provenance import get_provenance, track_provenance
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.fx.experimental.proxy_tensor import get_proxy_mode

from pplvm.particles.contract import sample_sites
from pplvm.particles.dependencies import Written
from pplvm.particles.masks import is_masked, visible_coordinates
from pplvm.particles.pair import Pair, cuda_devices
from pplvm.particles.unobserved import Unobserved

__all__ = ["WithoutData", "hides_data", "observed_conditions", "rows_that_observe"]

SITES_OF_CONDITIONS = "sites of conditions"


def observed_conditions(pair: Pair, args: tuple, kwargs: dict) -> dict[str, frozenset[int]]:
    """Names of the model's observed sites whose values come from conditions and not from data.

    Arguments:
        args: data and conditions, (x, y, ...).

    Returns:
        Which arguments each of them observes, 1 for y; nothing where there are no conditions.
    """
    if len(args) < 2:
        return {}
    memory = {} if pair.structures is None else pair.structures.memory(())
    if SITES_OF_CONDITIONS not in memory or get_proxy_mode() is None:  # what is traced cannot be followed
        memory[SITES_OF_CONDITIONS] = _followed(pair, args, kwargs)
    return memory[SITES_OF_CONDITIONS]


def rows_that_observe(pair: Pair, args: tuple, kwargs: dict) -> Tensor:
    """A mask (B,) of the data of which the model observes an unmasked condition."""
    names = observed_conditions(pair, args, kwargs)
    found = torch.zeros(len(args[0]), dtype=torch.bool)
    if names:
        trace = _run_again(pair, args, kwargs)
        for name in names:
            site = trace.nodes[name]
            rows = visible_coordinates(site).movedim(
                -1 - len(site["fn"].event_shape), 0
            )  # (B, nested plates..., event...)
            found = found | rows.reshape(len(rows), -1).any(1)
    return found


def hides_data(pair: Pair, args: tuple, kwargs: dict) -> bool | None:
    """Whether a mask hides values of the data that the model observes; None where no site of data has a mask at all."""
    conditions = observed_conditions(pair, args, kwargs)
    sites = sample_sites(_run_again(pair, args, kwargs))
    masked = [s for name, s in sites.items() if s["is_observed"] and name not in conditions and is_masked(s)]
    return any(not bool(visible_coordinates(site).all()) for site in masked) if masked else None


class WithoutData(Messenger):
    """Draw at sites that observe data, as `Unobserved` does, but keep the conditions that are observed.

    Arguments:
        kept: names of the sites of `observed_conditions`.
    """

    def __init__(self, kept: frozenset[str]) -> None:
        super().__init__()
        self.kept, self._uncondition = kept, Unobserved()

    def _pyro_sample(self, msg: "poutine.runtime.Message") -> None:
        if msg["name"] not in self.kept:
            self._uncondition._pyro_sample(msg)


def _run_again(pair: Pair, args: tuple, kwargs: dict) -> poutine.Trace:
    """One more run of the model, which leaves the random state as it was."""
    with torch.no_grad(), torch.random.fork_rng(cuda_devices(args)):
        return pair.again.run(pair.model, 1, args, kwargs)


def _followed(pair: Pair, args: tuple, kwargs: dict) -> dict[str, frozenset[int]]:
    """By Pyro's provenance; a site counts as one of data where the program leaves torch."""
    with torch.no_grad(), torch.random.fork_rng(cuda_devices(args)), Written():
        tracked = (track_provenance(arg, frozenset({number})) for number, arg in enumerate(args))
        trace = pair.again.run(pair.model, 1, tuple(tracked), kwargs)
    observed = {name: site for name, site in sample_sites(trace).items() if site["is_observed"]}
    read = {name: get_provenance(site["value"]) for name, site in observed.items()}
    return {name: numbers for name, numbers in read.items() if numbers and 0 not in numbers}
