"""The pictures of a trained program: what it draws, rebuilds, passes through and moves."""

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from pplvm.commands.trained import Trained
from pplvm.evaluation.decoding import Samples
from pplvm.evaluation.one_by_one import frozen
from pplvm.evaluation.samples import interpolations, reconstructions
from pplvm.evaluation.traversals import traversals
from pplvm.particles.contract import latents
from pplvm.particles.enumeration import coordinates, is_enumerable
from pplvm.plots.images import save_grid

__all__ = ["Pictures"]

PAIRS = 6
"""Pairs of data to pass between."""

STEPS = 9
"""Images from one datum to the other."""

MOST_UNITS = 12
"""Units of a latent that are moved, the first ones."""


class Pictures:
    """PNG grids in a folder that exists.

    Arguments:
        seed: of all draws.
    """

    def __init__(self, trained: Trained, directory: Path, seed: int) -> None:
        self._program, self._x, self._directory, self._seed = trained.program, trained.rows(2 * PAIRS), directory, seed
        self.files: dict[str, Path] = {}  # by title
        self.left_out: list[str] = []  # what could not be drawn, and why, a sentence each

    def draw(self, samples: Callable[[], Samples]) -> None:
        """All of them, those of the prior from `samples`, which not every program allows."""
        program, x, seed = self._program, self._x, self._seed
        starts, ends = (x[:PAIRS], x[PAIRS:]) if len(x) == 2 * PAIRS else (x, x.flip(0))
        self._save("samples", "Samples of the prior, the means of p(x | z)", lambda: _in_rows(samples().mean))
        self._save("draws", "Samples of the prior, drawn from p(x | z)", lambda: _in_rows(samples().draw))
        self._save(
            "reconstructions",
            "Data, and the mean of p(x | z) at one draw of q(z | x)",
            lambda: torch.stack([x, reconstructions(program, x, seed)]),
            ["data", "model"],
        )
        for how, words in (("linear", "straight"), ("spherical", "along the sphere")):
            self._save(
                f"interpolation-{how}",
                f"From one datum to another, {words} in the latents",
                lambda how=how: interpolations(program, starts, ends, STEPS, how, seed=seed),
            )
        for site, size in self._units():
            units = list(range(min(size, MOST_UNITS)))
            self._save(
                f"traversal-{site}",
                f"One unit of {site} moved, a row each",
                lambda site=site, units=units: traversals(program, x[:1], site, units, seed=seed).images,
                [f"{site}[{unit}]" for unit in units],
            )

    def _save(self, name: str, title: str, images: Callable[[], Tensor], row_labels: list[str] | None = None) -> None:
        try:
            array = images().cpu().numpy()
            self.files[title] = save_grid(array, self._directory / f"{name}.png", row_labels or [])
        except (ValueError, RuntimeError, NotImplementedError) as error:
            self.left_out.append(f"{name}.png: {' '.join(str(error).split())}")

    def _units(self) -> Iterator[tuple[str, int]]:
        """The latents, and how many units each has; a one-hot vector is one."""
        with frozen(self._program, self._x) as pair:
            drawn = latents(pair.run_guide(1, (self._x[:1],), {}))
        for name, site in drawn.items():
            own = coordinates(site["fn"]).event_shape if is_enumerable(site) else torch.Size()
            yield name, site["value"].numel() // own.numel()


def _in_rows(images: Tensor) -> Tensor:
    """As square a grid as whole rows allow, (R, C, ...)."""
    columns = max(1, round(len(images) ** 0.5))
    return images[: len(images) // columns * columns].unflatten(0, (-1, columns))
