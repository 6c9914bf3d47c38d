"""How figures of the command line look: as matplotlib makes them, whatever the environment or a file nearby says."""

import contextlib
import os
import sys
from collections.abc import Iterator

__all__ = ["agg_backend", "default_style"]

VARIABLE = "MPLBACKEND"


@contextlib.contextmanager
def agg_backend() -> Iterator[None]:
    """Draw into files, whatever backend MPLBACKEND names: Jupyter's, say, which need not be installed where pplvm is.

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
    """Leave out the `matplotlibrc` that matplotlib reads where it is started, which may have it run LaTeX.

    The user's own settings are back afterwards.

    Example:
        >>> with default_style():
        ...     pass
    """
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        yield
