"""Matplotlib's backend and defaults for the command line, independent of the environment and of matplotlibrc."""

import contextlib
import os
import sys
from collections.abc import Iterator

__all__ = ["agg_backend", "default_style"]

VARIABLE = "MPLBACKEND"


@contextlib.contextmanager
def agg_backend() -> Iterator[None]:
    """Draw with the Agg backend, whatever MPLBACKEND names: that of Jupyter may not be installed here.

    Where matplotlib is imported within, it afterwards has the backend that MPLBACKEND asks for, and a notebook shows
    its figures as before.

    Example:
        >>> with agg_backend():
        ...     os.environ.get("MPLBACKEND") in (None, "agg")
        True
    """
    asked, is_imported = os.environ.get(VARIABLE), "matplotlib" in sys.modules
    if asked is None:
        yield
        return
    os.environ[VARIABLE] = "agg"
    try:
        yield
    finally:
        os.environ[VARIABLE] = asked
        if not is_imported and "matplotlib" in sys.modules:
            with contextlib.suppress(ValueError):  # no such backend
                sys.modules["matplotlib"].rcParams["backend"] = asked


@contextlib.contextmanager
def default_style() -> Iterator[None]:
    """Use matplotlib's default rcParams, whatever a `matplotlibrc` of the current directory says.

    The user's own settings are back afterwards.

    Example:
        >>> with default_style():
        ...     pass
    """
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        yield
