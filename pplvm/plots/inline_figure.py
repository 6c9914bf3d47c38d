"""A matplotlib figure outside of pyplot that notebooks display."""

import io

from matplotlib.figure import Figure

__all__ = ["InlineFigure"]


class InlineFigure(Figure):
    """A figure outside of pyplot: a notebook shows it once, and nothing has to be closed.

    Example:
        >>> figure = InlineFigure(figsize=(2, 1))
        >>> _ = figure.subplots().plot([1, 2])
        >>> figure._repr_png_().startswith(b"\\x89PNG")
        True
    """

    def _repr_png_(self) -> bytes:
        png = io.BytesIO()
        self.savefig(png, format="png")  # at its own dots per inch, which grids of images need
        return png.getvalue()
