"""How notebooks show a data set: its promise, and thumbnails of its first data."""

import torch
from torch import Tensor

from pplvm.data.source import NOT_KNOWN
from pplvm.data.spec import DataSpec

__all__ = ["Shown"]

THUMBNAILS = 20


class Shown:
    """A data set that notebooks show; children have a specification, rows and, if known, labels and conditions."""

    spec: DataSpec
    labels: Tensor | None

    def rows(self, index: Tensor, epoch: int = 0) -> Tensor:
        raise NotImplementedError

    def given(self) -> str:
        raise NotImplementedError

    def _repr_html_(self) -> str:
        from pplvm.plots.display import images_html, or_plain, spec_facts  # matplotlib is slow to import

        def html() -> str:
            index = torch.arange(min(THUMBNAILS, self.spec.size))
            labels = [] if self.labels is None else self.labels[: len(index)].tolist()
            captions = ["?" if label == NOT_KNOWN else f"{label}" for label in labels]
            facts = spec_facts(self.spec) | ({"given": given} if (given := self.given()) else {})
            return images_html(facts, self.rows(index).cpu().numpy(), captions)

        return or_plain(html, self.__repr__)
