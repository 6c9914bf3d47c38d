"""A counter-based random number generator: each draw is a pure function of (seed, epoch, index).

References: Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014 (splitmix64).
"""

__all__ = ["permutation", "splitmix64", "uniforms"]

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio, splitmix64's step from one state to the next


def uniforms(seed: int, epoch: int, index: Tensor, size: int) -> Tensor:
    """Uniform numbers in [0, 1), `size` for each datum in `index`.

    Arguments:
        seed, epoch: any integers; another value of either gives fresh numbers.
        index: (n,) integers, the numbers of the data in their data set.
        size: how many numbers a datum needs.

    Example:
        >>> both = uniforms(0, 0, torch.tensor([3, 5]), 4)  # (2, 4)
        >>> torch.equal(both[1:], uniforms(0, 0, torch.tensor([5]), 4))
        True
    """
    steps = GOLDEN * np.arange(-(-size // 2), dtype=np.uint64)
    words = splitmix64(_keys(seed, epoch, index)[:, None] + steps)  # two numbers each
    bits = words.astype("<u8", copy=False).view("<u4")[:, :size]  # (n, size)
    return torch.from_numpy((bits >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24))


def permutation(size: int, seed: int, epoch: int = 0) -> Tensor:
    """A permutation of 0 to size - 1 by (seed, epoch), (size,): the same on every platform.

    Example:
        >>> sorted(permutation(4, seed=0).tolist())
        [0, 1, 2, 3]
    """
    return torch.from_numpy(np.argsort(_keys(seed, epoch, np.arange(size)), kind="stable"))


def splitmix64(state: np.ndarray) -> np.ndarray:
    """The generator splitmix64 at each state, uint64 to uint64 of the same shape (not 0-d).

    Example:
        >>> hex(splitmix64(np.zeros(1, np.uint64))[0])
        '0xe220a8397b1dcdaf'
    """
    mixed = state + GOLDEN
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _keys(seed: int, epoch: int, index: ArrayLike) -> np.ndarray:
    """One 64-bit key a datum, (n,)."""
    key = np.zeros(1, dtype=np.uint64)
    for word in ([seed % 2**64], [epoch % 2**64], index):
        key = splitmix64(key ^ np.asarray(word).astype(np.uint64))
    return key
