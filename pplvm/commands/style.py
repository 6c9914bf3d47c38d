"""How figures of the command line look: as matplotlib makes them, whatever a file in the working directory says."""

__all__ = ["use_default_style"]


def use_default_style() -> None:
    """Leave out the `matplotlibrc` that matplotlib reads where it is started, which may have it run LaTeX.

    Example:
        >>> use_default_style()
    """
    import matplotlib

    matplotlib.rcdefaults()
