"""Binarizes grey data: statically by a threshold, or dynamically by a new draw in every epoch."""

__all__ = ["binarize"]

from pplvm.batch import Batch
from pplvm.data.image_data import ImageData
from pplvm.data.value_interpretation import levels_of_integers


def binarize(data: ImageData | Batch, how: str, seed: int = 0, threshold: float = 0.5) -> ImageData:
    """Binarize data as they are read; data that are binary already stay as they are.

    Arguments:
        data: a data set, a tensor (N, *shape) or a tuple (x, y, ...), with values in [0, 1], or integers from 0 to
            128 or more, 255 at most, which are taken for 256 grey levels.
        how: "none"; "static", 1 where x > threshold; "dynamic", x is the probability of a 1, drawn
            anew in every epoch.
        seed: of the dynamic draws.
        threshold: of the static ones.
    Raises ValueError for another `how`, values outside [0, 1], small integers that nothing says are grey levels, and a
        threshold that no value or every value is above.

    Example:
        >>> import torch
        >>> grey = ImageData(torch.tensor([[0, 3], [1, 2]], dtype=torch.uint8), "toy", levels=5)
        >>> binarize(grey, "static")[0]
        tensor([0., 1.])
    """
    if how not in ("none", "static", "dynamic"):
        raise ValueError(f"binarization is {how!r}: use none, static or dynamic")
    data = ImageData.of(data)
    if how == "none" or data.spec.levels == 2:
        return data
    name, (low, high) = data.spec.name, data.extremes
    top = _top(data, low, high)
    if low < 0 or high > top:
        raise ValueError(
            f"data set {name!r} has values from {low:g} to {high:g} that are not in [0, 1] and cannot be binarized: "
            "scale them, or, if they are grey images, give their --levels, or keep them as they are (--binarize none)"
        )
    if top == 1 and not data.is_floating_point:
        return ImageData(data.stored, name, 2, data.labels).knowing(data)
    if how == "static" and (low > threshold * top or high <= threshold * top):
        value = int(low > threshold * top)
        raise ValueError(
            f"data set {name!r} has values from {low / top:.3g} to {high / top:.3g} in [0, 1], so that all are {value} "
            f"by the threshold {threshold:g}: binarize dynamically (--binarize dynamic), or by another threshold"
        )
    return ImageData(data.stored, name, 2, data.labels, top, how, seed, threshold).knowing(data)


def _top(data: ImageData, low: float, high: float) -> int:
    """The stored value that means 1: given, or for integers guessed from their range."""
    if data.spec.levels is not None or data.is_floating_point:
        return data.top
    if low >= 0 and high <= 1:
        return 1
    name = data.spec.name
    if low < 0 or high > 255:
        raise ValueError(
            f"data set {name!r} has values from {low:g} to {high:g} that are not grey levels from 0 to 255 and cannot "
            "be binarized: keep them as they are (--binarize none), or, if they are grey images, give their --levels"
        )
    return levels_of_integers(low, high, name, "--binarize none to keep them as they are") - 1
