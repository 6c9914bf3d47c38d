"""Binary data from grey: by a threshold, once, or by a draw in every epoch."""

__all__ = ["binarize"]

import torch
from torch import Tensor

from pplvm.data.image_data import ImageData


def binarize(data: ImageData | Tensor, how: str, seed: int = 0, threshold: float = 0.5) -> ImageData:
    """The data made binary; data that are binary already pass unchanged.

    Arguments:
        data: a data set, or a tensor (N, *shape), with values in [0, 1], or integers in 0 to 255, which are taken for
            grey levels.
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
    top = data.top if data.spec.levels is not None or data.images.is_floating_point() else 255
    low, high = (float(value) / top for value in data.images.aminmax())
    if low < 0 or high > 1:
        grey, cure = ("grey levels from 0 to 255", "") if top == 255 else ("in [0, 1]", "scale them, or ")
        raise ValueError(
            f"data set {data.spec.name!r} has values from {low * top:g} to {high * top:g} that are not {grey} and "
            f"cannot be binarized: {cure}keep them as they are (--binarize none)"
        )
    if how == "dynamic":
        return ImageData(data.images, data.spec.name, 2, data.labels, top, how, seed)
    ones = (data.images > threshold * top).to(torch.uint8)
    return ImageData(ones, data.spec.name, 2, data.labels, binarization=how)
