"""The results of an evaluation: figures by section, and the terms of each datum behind them."""

from dataclasses import asdict, dataclass
from typing import Any, Protocol

from torch import Tensor

from pplvm.evaluation.disentanglement.scores import Disentanglement
from pplvm.evaluation.figures import Figure
from pplvm.evaluation.likelihood_names import LikelihoodNames
from pplvm.plots.notebook_html import evaluation_html, evaluation_text, html_or_text

__all__ = ["Evaluation", "OBSERVED", "Rows", "VARIABLES"]

VARIABLES = ("log_p", "log_mean_weight")
"""How the estimates at each k are called among the terms of each datum: the second where a fault keeps them from being
a bound on what `Evaluation.names` says."""

OBSERVED = "conditions_observed"
"""Among the terms of each datum, 1 where the model observes its conditions and 0 where not, if data differ in that."""


class Rows(Protocol):
    """A data set that gives any of its data at once, with conditions, as `pplvm.digits("test")`."""

    def __len__(self) -> int: ...

    def batch(self, index: Tensor) -> tuple[Tensor, ...]: ...

    @property
    def spec(self) -> Any: ...


@dataclass(frozen=True, repr=False)
class Evaluation:
    """The results of `evaluate`; printed, or shown by a notebook, as tables of figures with their errors.

    Arguments:
        sections: figures under their headings, in the order of a report.
        per_datum: terms behind the figures, (N,) or (N, k) each, float64.
        left_out: what could not be asked of this program, and why, a sentence each.
        names: what `log_p` is of: data, data given conditions, or data and the labels that the model observes.
        disentanglement: scores of the codes, where known factors were given.
    """

    sections: dict[str, list[Figure]]
    per_datum: dict[str, Tensor]
    left_out: tuple[str, ...]
    names: LikelihoodNames = LikelihoodNames()
    disentanglement: Disentanglement | None = None

    def __repr__(self) -> str:
        try:
            return evaluation_text(self._rows, self.left_out)
        except Exception:  # looking at a result must not end in an error
            return f"Evaluation({self.sections}, left_out={self.left_out})"

    def _repr_html_(self) -> str:
        return html_or_text(lambda: evaluation_html(self._rows, self.left_out), self.__repr__)

    @property
    def _rows(self) -> dict[str, list[dict[str, Any]]]:
        return {title: [asdict(figure) for figure in figures] for title, figures in self.sections.items()}
