"""Binary data from grey: by a threshold, once, or by a draw in every epoch."""

__all__ = ["binarize"]

import torch
from torch import Tensor

from pplvm.data.image_data import ImageData


def binarize(data: ImageData | Tensor, how: str, seed: int = 0, threshold: float = 0.5) -> ImageData:
    """The data made binary; data that are binary already pass unchanged.

    Arguments:
        data: a data set, or a tensor (N, *shape), with values in [0, 1].
        how: "none"; "static", 1 where x > threshold; "dynamic", x is the probability of a 1, drawn
            anew in every epoch.
        seed: of the dynamic draws.
        threshold: of the static ones.
    Raises ValueError for another `how` and for values outside [0, 1].

    Example:
        >>> grey = ImageData(torch.tensor([[0, 3], [1, 2]], dtype=torch.uint8), "toy", levels=5)
        >>> binarize(grey, "static")[0]
        tensor([0., 1.])
    """
    if how not in ("none", "static", "dynamic"):
        raise ValueError(f"binarization is {how!r}: use none, static or dynamic")
    data = ImageData.of(data)
    if how == "none" or data.spec.levels == 2:
        return data
    low, high = (float(value) / data.top for value in data.images.aminmax())
    if low < 0 or high > 1:
        raise ValueError(
            f"data set {data.spec.name!r} has values from {low:g} to {high:g} and cannot be binarized: "
            "scale them to [0, 1] first"
        )
    if how == "dynamic":
        return ImageData(data.images, data.spec.name, 2, data.labels, data.top, how, seed)
    ones = (data.images > threshold * data.top).to(torch.uint8)
    return ImageData(ones, data.spec.name, 2, data.labels, binarization=how)
