"""The pictures of a trained program: samples, reconstructions, interpolations and traversals."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from pplvm.batch import as_tuple, batch_rows, without_conditions
from pplvm.commands.runs.trained_program import TrainedProgram
from pplvm.evaluation.decoding import Samples
from pplvm.evaluation.per_datum import evaluation_mode
from pplvm.evaluation.samples import interpolations, reconstructions
from pplvm.evaluation.traversals import traversals
from pplvm.particles.contract import latents
from pplvm.particles.enumeration import is_enumerable, one_coordinate
from pplvm.plots.images import save_grid

__all__ = ["Pictures"]

PAIRS = 6
"""Pairs of data to pass between."""

STEPS = 9
"""Images from one datum to the other."""

MOST_UNITS = 12
"""Units of a latent that are moved, the first ones."""


class Pictures:
    """Draws the pictures as PNG grids into an existing folder.

    Arguments:
        seed: of all draws.
    """

    def __init__(self, trained: TrainedProgram, directory: Path, seed: int) -> None:
        self._program, self._directory, self._seed = trained.program, directory, seed
        self._batch = as_tuple(trained.rows(2 * PAIRS))
        self.files: dict[str, Path] = {}  # by title
        self.left_out: list[str] = []  # what could not be drawn, and why, a sentence each

    @property
    def traversals(self) -> dict[str, Path]:
        """Those of the drawn pictures that move one unit at a time, by title."""
        return {title: path for title, path in self.files.items() if path.name.startswith("traversal-")}

    def draw(self, samples: Callable[[], Samples], classes: Sequence[int] = ()) -> None:
        """Draw all pictures, those of the prior from `samples`, which not every program allows.

        Arguments:
            classes: of which the samples are in turn, a column each.
        """
        program, seed, x = self._program, self._seed, self._batch[0]
        starts, ends = (without_conditions([part[rows] for part in self._batch]) for rows in _ends(len(x)))
        columns = [f"class {label}" for label in classes]
        of = f"Samples of the prior{' of each class' if classes else ''}"
        self._save("samples", f"{of}, the means of p(x | z)", lambda: _in_rows(samples().mean, columns), (), columns)
        self._save("draws", f"{of}, drawn from p(x | z)", lambda: _in_rows(samples().draw, columns), (), columns)
        self._save(
            "reconstructions",
            "Data, and the mean of p(x | z) at one draw of q(z | x)",
            lambda: torch.stack([x, reconstructions(program, self._batch, seed)]),
            ["data", "model"],
        )
        pairs = _pairs(len(x))
        for how, words in (("linear", "straight"), ("spherical", "along the sphere")):
            self._save(
                f"interpolation-{how}",
                f"From one datum to another, {words} in the latents; above, the share of the way gone",
                lambda how=how: interpolations(program, starts, ends, STEPS, how, seed=seed),
                [f"{a} to {b}" for a, b in pairs],
                [f"{step / (STEPS - 1):g}" for step in range(STEPS)],
            )
        for site, size in self._units():
            self._try(f"traversal-{site}", partial(self._traverse, site, list(range(min(size, MOST_UNITS)))))

    def _traverse(self, site: str, units: list[int]) -> None:
        found = traversals(self._program, batch_rows(self._batch, slice(1)), site, units, seed=self._seed)
        images, values = found.images.cpu().numpy(), found.values.tolist()
        told = [[f"{value + 0.0:.3g}" for value in row] for row in values]
        same = all(row == told[0] for row in told)
        title = f"One unit of {site} moved, a row each, to the value above the {'column' if same else 'image'}"
        shown = {"column_labels": told[0]} if same else {"cell_labels": told}
        path = self._directory / f"traversal-{site}.png"
        self.files[title] = save_grid(images, path, [f"{site}[{unit}]" for unit in units], **shown)

    def _save(
        self,
        name: str,
        title: str,
        images: Callable[[], Tensor],
        row_labels: Sequence[str] = (),
        column_labels: Sequence[str] = (),
    ) -> None:
        def save() -> None:
            array = images().cpu().numpy()
            self.files[title] = save_grid(array, self._directory / f"{name}.png", row_labels, column_labels)

        self._try(name, save)

    def _try(self, name: str, draw: Callable[[], None]) -> None:
        try:
            draw()
        except (ValueError, RuntimeError, NotImplementedError) as error:
            self.left_out.append(f"{name}.png: {' '.join(str(error).split())}")

    def _units(self) -> Iterator[tuple[str, int]]:
        """The latents and their number of units each; a one-hot vector is one unit."""
        with evaluation_mode(self._program, self._batch) as pair:
            drawn = latents(pair.run_guide(1, batch_rows(self._batch, slice(1)), {}))
        for name, site in drawn.items():
            own = one_coordinate(site["fn"]).event_shape if is_enumerable(site) else torch.Size()
            yield name, site["value"].numel() // own.numel()


def _pairs(count: int) -> list[tuple[int, int]]:
    """Index pairs of data to interpolate between, counted from 0."""
    if count == 2 * PAIRS:
        return [(i, i + PAIRS) for i in range(PAIRS)]
    return [(i, count - 1 - i) for i in range(count)]


def _ends(count: int) -> tuple[list[int], list[int]]:
    """Indices of the data that interpolations start from, and of those they end at."""
    starts, ends = zip(*_pairs(count), strict=True)
    return list(starts), list(ends)


def _in_rows(images: Tensor, labels: Sequence[str]) -> Tensor:
    """Arrange images with a column for each label, else in as square a grid as full rows allow, (R, C, ...)."""
    columns = len(labels) or max(1, round(len(images) ** 0.5))
    if len(images) < columns:
        raise ValueError(f"{len(images)} samples make no row of {columns} classes: ask for more, as --count {columns}")
    return images[: len(images) // columns * columns].unflatten(0, (-1, columns))
