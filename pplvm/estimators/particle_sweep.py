"""Signal-to-noise of gradients as a function of the number of particles, for model and guide.

Rainforth et al. predict for the iwae bound a slope of +1/2 on the model's side and, for plain pathwise
gradients, -1/2 on the guide's.

References:
    Rainforth et al., Tighter variational bounds are not necessarily better, 2018, arXiv:1802.04537
"""

import math
from collections.abc import Container, Iterator, Mapping

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from pplvm.batch import Batch, as_tuple
from pplvm.distributed.object_collectives import all_gather_object, error_message, rank_indices
from pplvm.distributed.ranks import size
from pplvm.estimators.baselines import train_baseline
from pplvm.estimators.failures import Failures, left_out_sentences
from pplvm.estimators.parameters import Parameters
from pplvm.estimators.replicates.drawing import random_state
from pplvm.estimators.statistics.moments import Moments, over_ranks
from pplvm.objectives.objective import Loss
from pplvm.particles.side_effects import buffers_restored

__all__ = ["ParticleSweep"]


class ParticleSweep:
    """Replicate gradients at several numbers of particles K.

    Arguments:
        losses: by estimator and K, all on one program.
        batch: one minibatch (B, ...), or a tuple of it and its conditions.
        replicates: gradients per estimator and K, shared out over ranks.
        seed: replicate r of every estimator starts from (seed, r).
    """

    def __init__(
        self, losses: Mapping[str, Mapping[int, Loss]], batch: Batch, replicates: int = 100, seed: int = 0
    ) -> None:
        self.losses, self.args, self.replicates, self.seed = losses, as_tuple(batch), replicates, seed
        programs = [loss.program for by_particles in losses.values() for loss in by_particles.values()]
        self.parameters = Parameters.of(programs[0], self.args) if programs else None
        self.signal: dict[tuple[str, int, str], float] = {}
        self._reasons: dict[str, str] = {}  # by what is left out
        self._done = 0  # of the rounds

    @property
    def left_out(self) -> list[str]:
        """A sentence for each reason why estimators are left out."""
        return left_out_sentences(self._reasons, " of the sweep")

    @property
    def unfinished(self) -> str:
        """What is missing, in words; empty if nothing is."""
        cells, known = sum(map(len, self.losses.values())), len({(name, K) for name, K, _ in self.signal})
        if self._done >= self.number_of_rounds:
            return ""
        return f"signal-to-noise against K was measured for {known} of {cells} pairs of estimator and K"

    def keep(self, names: Container[str]) -> None:
        """Drop all estimators but the named ones."""
        self.losses = {name: by_particles for name, by_particles in self.losses.items() if name in names}

    @property
    def number_of_rounds(self) -> int:
        cells = sum(len(by_particles) for by_particles in self.losses.values())
        return cells * -(-self.replicates // size())

    def rounds(self) -> Iterator[int]:
        """Draw one replicate of one estimator at one K a round, on each rank; yields the number of rounds done."""
        self._done = 0
        for name, by_particles in self.losses.items():
            for K, loss in by_particles.items():
                for _ in self._measure(name, K, loss):
                    self._done += 1
                    yield self._done

    def _measure(self, name: str, K: int, loss: Loss) -> Iterator[None]:
        assert self.parameters is not None
        moments, failures, what = Moments(self.parameters.size), Failures(), f"{name} at K = {K}"
        if loss.control is not None:
            self._take_up_noise()
            with failures.of(what), buffers_restored(loss.program):
                train_baseline(loss, [self.args], steps=30)
        for draw in rank_indices(self.replicates):
            if draw < self.replicates and what not in failures:
                with failures.of(what):
                    moments.add(self._draw(loss, draw))
            yield
        if error := failures.over_ranks().get(what):
            self._reasons[what] = error_message(error)
        else:
            self._keep(name, K, over_ranks(moments))

    def _draw(self, loss: Loss, draw: int) -> Tensor:
        assert self.parameters is not None
        torch.manual_seed(self.seed * 1_000_003 + draw)
        loss.program.zero_grad(set_to_none=True)
        with buffers_restored(loss):
            loss(*self.args).backward()
        return self.parameters.gradient()

    def _take_up_noise(self) -> None:
        """Continue, on all ranks, from the random state that the last replicate left on its rank."""
        x = self.args[0]
        left = all_gather_object(random_state(x))[(self.replicates - 1) % size()]
        torch.cuda.set_rng_state(left, x.device) if x.is_cuda else torch.set_rng_state(left)

    def _keep(self, name: str, K: int, moments: Moments) -> None:
        assert self.parameters is not None
        for side in ("model", "guide"):
            inside = self.parameters.side(side)
            noise = float(moments.variance[inside].sum())
            squared = float(moments.mean[inside].square().sum()) - noise / self.replicates
            if noise > 0:
                self.signal[name, K, side] = math.sqrt(squared / noise) if squared > 0 else 0.0

    def result(self) -> xr.Dataset:
        """`sweep_snr` (zero where nothing stands above the noise) and `sweep_floor`, by estimator, k and side."""
        names, sides = list(self.losses), ["model", "guide"]
        ks = sorted({K for by_particles in self.losses.values() for K in by_particles})
        signal = [[[self.signal.get((n, K, s), math.nan) for s in sides] for K in ks] for n in names]
        values = xr.DataArray(
            np.array(signal, dtype=float).reshape(len(names), len(ks), 2),
            dims=("estimator", "k", "side"),
            coords={"estimator": names, "k": ks, "side": sides},
        )
        floor = xr.full_like(values, 1 / math.sqrt(self.replicates)).where(values.notnull())
        return xr.Dataset({"sweep_snr": values, "sweep_floor": floor})
