"""How notebooks show a data set: its specification, and thumbnails of its first images."""

import torch
from torch import Tensor

from pplvm.data.array_splits import NOT_KNOWN
from pplvm.data.spec import DataSpec

__all__ = ["NotebookRepr"]

THUMBNAILS = 20


class NotebookRepr:
    """A mixin with `_repr_html_` for data sets; children have a specification, rows, perhaps labels and conditions."""

    spec: DataSpec
    labels: Tensor | None

    def rows(self, index: Tensor, epoch: int = 0) -> Tensor:
        raise NotImplementedError

    def given(self) -> str:
        raise NotImplementedError

    def _repr_html_(self) -> str:
        from pplvm.plots.notebook_html import html_or_text, images_html, spec_facts  # matplotlib is slow to import

        def html() -> str:
            index = torch.arange(min(THUMBNAILS, self.spec.size))
            labels = [] if self.labels is None else self.labels[: len(index)].tolist()
            captions = ["?" if label == NOT_KNOWN else f"{label}" for label in labels]
            facts = spec_facts(self.spec) | ({"given": given} if (given := self.given()) else {})
            return images_html(facts, self.rows(index).cpu().numpy(), captions)

        return html_or_text(html, self.__repr__)
