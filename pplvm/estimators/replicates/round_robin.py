"""Round-robin draws: each replicate of every estimator before the next, from the same seeds and on the same machine."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from pplvm.batch import Batch
from pplvm.estimators.failures import Failures, require_finite
from pplvm.estimators.replicates.drawing import Drawing
from pplvm.estimators.replicates.gradient import Drawn

__all__ = ["replicates_a_round", "drawn_round_robin"]

MOST_BYTES = 2**28
"""Of the replicates of one round, all estimators together."""


def drawn_round_robin(
    drawings: Mapping[str, Drawing], batch: Batch, draws: Sequence[int], seed_of: Callable[[str, int], int]
) -> tuple[dict[str, list[Drawn]], Failures]:
    """The same replicates of every estimator, and which estimators failed.

    Arguments:
        drawings: by estimator.
        batch: a minibatch (B, ...), or a tuple of it and its conditions.
        draws: numbers of the replicates.
        seed_of: the seed of an estimator's replicate.
    """
    drawn: dict[str, list[Drawn]] = {name: [] for name in drawings}
    failures = Failures()

    def draw_of(names: Iterable[str], part: Sequence[int]) -> None:
        for name in names:
            if part and name not in failures:
                with failures.of(name):
                    found = drawings[name](batch, [seed_of(name, draw) for draw in part])
                    require_finite(name, found, *[f"replicate {draw}" for draw in part])
                    drawn[name].append(found)

    timed = max(drawing.singly for drawing in drawings.values())
    for draw in draws[:timed]:
        draw_of(drawings, [draw])
    rest = draws[timed:]
    chunked = _chunked(drawings, batch, failures) if rest else []
    for draw in rest:
        draw_of([name for name in drawings if name not in chunked], [draw])
    draw_of(chunked, rest)
    return drawn, failures


def _chunked(drawings: Mapping[str, Drawing], batch: Batch, failures: Failures) -> list[str]:
    """The estimators whose replicates are drawn in chunks."""
    found = []
    for name, drawing in drawings.items():
        with failures.of(name):
            if name not in failures and drawing.is_chunked(batch):
                found.append(name)
    return found


def replicates_a_round(drawings: Mapping[str, Drawing], parameters: int) -> int:
    """The number of replicates in the next round, limited by memory.

    Arguments:
        parameters: how many numbers a gradient has.
    """
    held = len(drawings) * parameters * 8
    return min(max(drawing.size for drawing in drawings.values()), max(1, MOST_BYTES // held))
