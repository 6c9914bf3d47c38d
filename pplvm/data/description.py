"""Describes a data set in one sentence: values, levels, range, binarization."""

__all__ = ["binarization_in_words", "is_rgb", "values_in_words"]


def values_in_words(
    levels: int | None, extremes: tuple[float, float], top: int, as_fractions: bool, whole: bool, rgb: bool
) -> str:
    """Describe the values of data as they are stored.

    Arguments:
        levels: before any binarization, 2 if they are binary, None if they are no grey levels.
        extremes: the lowest and the highest.
        top: the one that means 1.
        as_fractions: they are stored as k / top and not as k.
        whole: they are integers.
        rgb: they are colours.

    Example:
        >>> values_in_words(17, (0, 12), 16, False, True, False)
        'grey, 17 levels, stored as 0 to 16, found 0 to 12'
        >>> values_in_words(None, (-1.5, 2.0), 1, False, False, False)
        'real values from -1.5 to 2'
    """
    low, high = extremes
    if levels is None:
        return f"integers from {low:.0f} to {high:.0f}" if whole else f"real values from {low:.6g} to {high:.6g}"
    if levels == 2:
        return f"binary, stored as 0 and {1 if as_fractions else top}"
    colour = "RGB" if rgb else "grey"
    if as_fractions:
        return f"{colour}, {levels} levels, stored as k/{levels - 1}"
    found = "" if (low, high) == (0, top) else f", found {low:.0f} to {high:.0f}"
    return f"{colour}, {levels} levels, stored as 0 to {top}{found}"


def binarization_in_words(how: str, threshold: float, share: float | None) -> str:
    """Describe how data are binarized, and the share of ones that results, None for data that are not.

    Example:
        >>> binarization_in_words("static", 0.5, 0.319)
        'binarization: static (x > 0.5), 31.9 % ones'
    """
    told = {"static": f"static (x > {threshold:g})", "dynamic": "dynamic (drawn anew each epoch)"}.get(how, how)
    return f"binarization: {told}" + ("" if share is None else f", {100 * share:.3g} % ones")


def is_rgb(shape: tuple[int, ...]) -> bool:
    """Whether data of a shape have three channels, first or last."""
    return len(shape) == 3 and 3 in (shape[0], shape[-1])
