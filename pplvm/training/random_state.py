"""The random state of a process as tensors: torch on CPU and CUDA, numpy's and Python's global generators."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

__all__ = ["check_random_state", "random_state", "restore_random_state", "seed_all", "seeded"]

State = dict[str, Tensor]

MT_STATE_WORDS = 624
"""Of a Mersenne twister."""


def seed_all(seed: int) -> None:
    """Seed all global generators: torch's, numpy's and Python's.

    Example:
        >>> seed_all(3)
        >>> first = torch.rand(2), np.random.rand(), random.random()
        >>> seed_all(3)
        >>> torch.equal(torch.rand(2), first[0]), np.random.rand() == first[1], random.random() == first[2]
        (True, True, True)
    """
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within this context all global generators start from a seed; their states are restored afterwards.

    Example:
        >>> seed_all(3)
        >>> with seeded(4):
        ...     within = np.random.rand()
        >>> after = np.random.rand(); seed_all(3); np.random.rand() == after != within
        True
    """
    before = random_state()
    seed_all(seed)
    try:
        yield
    finally:
        restore_random_state(before)


def random_state() -> State:
    """The state of all global generators, with one entry for each CUDA device in use.

    Example:
        >>> before = random_state()
        >>> first = torch.rand(2), np.random.rand(), random.random()
        >>> restore_random_state(before)
        >>> torch.equal(torch.rand(2), first[0]), np.random.rand() == first[1], random.random() == first[2]
        (True, True, True)
    """
    _, words, _ = random.getstate()
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    state = {
        "torch": torch.get_rng_state(),
        "python": torch.tensor(words, dtype=torch.int64),
        "numpy": torch.from_numpy(keys.astype(np.int64)),
        "numpy_rest": torch.tensor([position, has_gauss, gauss], dtype=torch.float64),
    }
    if torch.cuda.is_initialized():
        state |= {f"cuda:{i}": each for i, each in enumerate(torch.cuda.get_rng_state_all())}
    return state


def check_random_state(state: State) -> None:
    """Refuse a state that does not fit this version of torch, numpy and Python.

    Raises:
        ValueError: a generator's is missing, or of another size.
    """
    for name, own in random_state().items():
        found = state.get(name)
        if name.startswith("cuda:") and found is None:
            continue
        if not isinstance(found, Tensor) or (found.dtype, found.shape) != (own.dtype, own.shape):
            raise ValueError(f"the random state of {name} is no {own.dtype} tensor of shape {tuple(own.shape)}")
    if not 0 <= float(state["numpy_rest"][0]) <= MT_STATE_WORDS:  # numpy would read beyond them
        raise ValueError(f"numpy's random state is at {float(state['numpy_rest'][0])} of {MT_STATE_WORDS} words")


def restore_random_state(state: State) -> None:
    """Restore the generators' states; those of CUDA devices that are missing here are left out."""
    torch.set_rng_state(state["torch"].cpu())
    random.setstate((3, tuple(state["python"].tolist()), None))
    position, has_gauss, gauss = state["numpy_rest"].tolist()
    np.random.set_state(("MT19937", state["numpy"].numpy().astype(np.uint32), int(position), int(has_gauss), gauss))
    for name, value in state.items():
        if name.startswith("cuda:") and torch.cuda.is_available() and int(name[5:]) < torch.cuda.device_count():
            torch.cuda.set_rng_state(value.cpu(), name)
