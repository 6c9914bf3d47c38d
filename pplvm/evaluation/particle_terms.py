"""Computes terms of each particle of a datum, by a graph of the program where that is faster, else by handlers."""

import warnings
from collections import Counter
from collections.abc import Callable, Hashable, Mapping

import torch
from torch import Tensor, nn

from pplvm.batch import Batch, as_tuple, batch_rows
from pplvm.evaluation.per_datum import MOST_AT_ONCE, chunks
from pplvm.graphs.compiled import Tier
from pplvm.graphs.particle_graph import ParticleGraph, particle_graph
from pplvm.graphs.tracing import NotOneGraph
from pplvm.particles.pair import Pair, Particles, draw_from_pair, owners

__all__ = ["ParticleTerms"]

FEW = 500
"""Runs that are over before a graph has paid for its making, half a second where a run is one or two milliseconds
quicker by it."""


class ParticleTerms:
    """Terms of K particles for one datum after another, from the same draws whether by graph or by handlers.

    The particles are drawn in runs of at most `MOST_AT_ONCE`, as by `draw_in_chunks`. Data enough for 500 runs of one
    size go through a graph, what the guide knows of a datum computed once for all of its runs; a program that is not
    one graph, or draws what is no input to it, goes through its handlers. Either way a datum's terms are the same, to
    the rounding of sums that are cut elsewhere.

    Arguments:
        pair: as `evaluation_mode` yields it.
        x: all the data to come, (N, *shape), or data and their conditions (x, y).
        num_particles: K.
        measure: from particles K' of one datum to terms, (K', ...) each.
        tier: "off" for the handlers, "graph" for the graph however few the data, "inductor" for it compiled at once,
            "auto" for what pays; a program that is not one graph goes through its handlers, with a warning if a graph
            was asked for.

    Example:
        >>> from pplvm.evaluation.per_datum import each_datum, evaluation_mode
        >>> from pplvm.programs.vae import VAE
        >>> x = torch.zeros(3, 8)
        >>> with evaluation_mode(VAE(data_size=8, latent_size=2), x) as pair:
        ...     terms = ParticleTerms(pair, x, 1000, lambda drawn: {"log w": drawn.log_weights[:, 0]})
        ...     [terms(row)["log w"].shape for row in each_datum(x, seed=0)]
        [torch.Size([1000]), torch.Size([1000]), torch.Size([1000])]
    """

    def __init__(
        self,
        pair: Pair,
        x: Batch,
        num_particles: int,
        measure: Callable[[Particles], Mapping[Hashable, Tensor]],
        tier: Tier = "auto",
    ) -> None:
        self._pair, self._x, self._measure, self._tier = pair, as_tuple(x), measure, tier
        self._sizes = chunks(num_particles, MOST_AT_ONCE)
        self._names: list[Hashable] = []
        self._runs = {size: number * len(self._x[0]) for size, number in Counter(self._sizes).items()}
        self._graphs: dict[int, ParticleGraph | None] = {}

    @property
    def num_data(self) -> int:
        """N."""
        return len(self._x[0])

    def __call__(self, row: Batch) -> dict[Hashable, Tensor]:
        """The terms, (K, ...) each, from torch's stream."""
        graphs = {size: self._graph(size) for size in self._runs}
        known = {size: graph.known(row) for size, graph in graphs.items() if graph is not None}
        found = []
        for size in self._sizes:
            graph = graphs[size]
            found.append(self._asked(size, *as_tuple(row)) if graph is None else graph(row, known[size]))
            if graph is not None and self._tier == "auto":
                graph.compile_if_it_pays(self._runs[size], row)
        return {name: torch.cat(terms) for name, *terms in zip(self._names, *found, strict=True)}

    def _graph(self, size: int) -> ParticleGraph | None:
        if size not in self._graphs:
            is_wanted = self._runs[size] >= FEW if self._tier == "auto" else self._tier != "off"
            self._graphs[size] = self._built(size) if is_wanted else None
        return self._graphs[size]

    def _built(self, size: int) -> ParticleGraph | None:
        module = nn.ModuleList(owners(self._pair.model, self._pair.guide))
        try:
            graph = particle_graph(self._asked, size, module, self._x)
        except NotOneGraph as error:
            if self._tier != "auto":
                warnings.warn(f"the particles are drawn eagerly, not by a graph: {error}", stacklevel=2)
            return None
        if self._tier == "inductor":
            graph.compile(batch_rows(self._x, slice(1)))
        return graph

    def _asked(self, size: int, *row: Tensor) -> list[Tensor]:
        terms = self._measure(draw_from_pair(self._pair, size, row, {}))
        self._names = list(terms)
        return list(terms.values())
