"""Codebooks of presets: made by name, and started at encoder outputs."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from pplvm.networks.code_initialization import codes_from_rows, k_means_codes
from pplvm.networks.codebook import Codebook, MovingAverageCodebook
from pplvm.networks.counted_codes import CountedCodes

__all__ = ["codebook_named", "start_codes"]

STARTS: dict[str, Callable[[Tensor, int], Tensor] | None] = {
    "normal": None,
    "data": codes_from_rows,
    "k-means": k_means_codes,
}


def codebook_named(name: str, num_codes: int, code_size: int, gradient: str, **settings: Any) -> CountedCodes:
    """A codebook by the name of how it learns.

    Arguments:
        name: "gradient" or "moving-average".
        num_codes, code_size: of it.
        gradient: which, where it learns by gradient.
        settings: of either: restart_below, decay.

    Raises:
        ValueError: there is none of that name; codes that the decoder's gradient moves are no moving averages; as in
            `CountedCodes`.

    Example:
        >>> codebook_named("moving-average", 5, 2, "loss").codes.shape
        torch.Size([5, 2])
    """
    if name == "gradient":
        return Codebook(num_codes, code_size, gradient, **settings)  # pyright: ignore[reportArgumentType]
    if name != "moving-average":
        raise ValueError(f"vq_vae: codebook must be 'gradient' or 'moving-average', got {name!r}")
    if gradient != "loss":
        raise ValueError(
            "vq_vae: a stochastic posterior learns its codes by the bound's own gradient, which a moving average does "
            "not follow: leave codebook out, or take posterior nearest"
        )
    return MovingAverageCodebook(num_codes, code_size, **settings)


@torch.no_grad()
def start_codes(
    codebook: CountedCodes,
    encoder: Callable[[Tensor], Tensor],
    start: str,
    examples: Tensor | None,
    shape: Sequence[int] | None,
) -> None:
    """Start the codes of a codebook by name.

    Arguments:
        codebook: whose codes are placed, by torch's random state.
        encoder: maps data to vectors (..., D).
        start: "normal" leaves them as they are; "data" takes vectors of some data, "k-means" the centres of their
            clusters.
        examples: these data, (n, D), and `shape`, in which the encoder takes one of them.

    Raises:
        ValueError: there is no start of that name, no data, or more codes than vectors.
    """
    if start not in STARTS:
        raise ValueError(f"vq_vae: initial_codes must be {' or '.join(map(repr, STARTS))}, got {start!r}")
    if (place := STARTS[start]) is None or codebook.epoch.is_meta:  # of a program that is given its weights
        return
    if examples is None or shape is None:
        raise ValueError(f"vq_vae: codes that start by {start!r} need data_examples, some of the training data")
    codebook.place(place(encoder(examples.reshape(-1, *shape)), codebook.num_codes))
