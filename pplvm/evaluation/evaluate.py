"""All that is asked of a trained program in one go: figures by section, and each datum's terms behind them."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from pplvm.distributed.progress import bar
from pplvm.distributed.ranks import my_rows, size
from pplvm.evaluation.annealing.annealed import annealed
from pplvm.evaluation.annealing.bidirectional import bidirectional
from pplvm.evaluation.evidence import Evidence, has_latents, log_evidence
from pplvm.evaluation.figures import Figure, mean_of
from pplvm.evaluation.information import aggregate_posterior
from pplvm.evaluation.information_bounds import barber_agakov, info_nce, info_nce_of_dreams
from pplvm.evaluation.likelihood import bits_per_dim, importance_sampled
from pplvm.evaluation.one_by_one import Seed, frozen, seeds_of
from pplvm.evaluation.proper import figure_name
from pplvm.evaluation.rates import rate_distortion
from pplvm.evaluation.shares import joined, over_ranks, share_of
from pplvm.evaluation.units import active_units
from pplvm.graphs.compiled import Tier
from pplvm.particles.contract import ProgramError, sample_sites
from pplvm.plots.display import evaluation_html, evaluation_text, or_plain

__all__ = ["NO_LATENTS", "VARIABLES", "Evaluation", "evaluate"]

AT_ONCE = 50
"""Data between two reports of progress; the figures do not depend on it."""

CONTRASTED = 100
"""Data in a batch of InfoNCE."""

VARIABLES = {"log p(x)": "log_p", "log mean weight": "log_mean_weight"}
"""How the estimates at each k are called among the terms of each datum, by how their figures are."""
NO_LATENTS = (
    "importance sampling, annealing, active units and information: the program has no latents, and log p(x) is exact"
)

Report = Callable[[str, int, int], None]
"""Told what is being done, how many data are done, and of how many."""


@dataclass(frozen=True, repr=False)
class Evaluation:
    """What was found; printed, or shown by a notebook, as tables of figures with their errors.

    Arguments:
        sections: figures under their headings, in the order of a report.
        per_datum: terms behind the figures, (N,) or (N, k) each, float64.
        left_out: what could not be asked of this program, and why, a sentence each.
    """

    sections: dict[str, list[Figure]]
    per_datum: dict[str, Tensor]
    left_out: tuple[str, ...]

    def __repr__(self) -> str:
        try:
            return evaluation_text(self._rows, self.left_out)
        except Exception:  # looking at a result must not end in an error
            return f"Evaluation({self.sections}, left_out={self.left_out})"

    def _repr_html_(self) -> str:
        return or_plain(lambda: evaluation_html(self._rows, self.left_out), self.__repr__)

    @property
    def _rows(self) -> dict[str, list[dict[str, Any]]]:
        return {title: [asdict(figure) for figure in figures] for title, figures in self.sections.items()}


class Rows(Protocol):
    """A data set of pplvm: it gives any of its rows at once, as `pplvm.digits("test")` does."""

    def __len__(self) -> int: ...

    def rows(self, index: Tensor) -> Tensor: ...


def evaluate(
    program: nn.Module,
    x: Tensor | Rows,
    *,
    ks: Sequence[int] = (1, 10, 100, 1000, 5000),
    annealed_data: int = 0,
    chains: int = 16,
    annealing_steps: int = 500,
    levels: int | None = None,
    seed: int = 0,
    compile: Tier = "auto",
    progress: bool | None = None,
) -> Evaluation:
    """Judge a program on data: log p(x), rate and distortion, active units, information, by every rank its share.

    Arguments:
        program: with methods model(x) and guide(x).
        x: data (N, *shape), or a data set of pplvm, the same on all ranks.
        ks: particles of the importance-sampled log p(x), rising.
        annealed_data: how many of the data get annealed importance sampling, and how many are simulated for its
            certificate; 0 for none.
        chains, annealing_steps: of each of them.
        levels: grey levels of the data, for bits per dimension.
        seed: of all draws; a datum's depend on it, on the datum's values and on how many equal data come before it.
        compile: "off" for the program's handlers, "graph" or "inductor" for one graph of it, "auto" for what pays.
        progress: whether a bar is shown; by default on a terminal and in a notebook.

    Raises:
        FloatingPointError: the program gives a datum no number.
        ProgramError: the program breaks a rule.
        ValueError: there are no data, or fewer than ranks.

    Example:
        >>> from pplvm.programs.ppca import ProbabilisticPCA
        >>> found = evaluate(ProbabilisticPCA(data_size=3), torch.randn(20, 3), ks=(1, 10))
        >>> print(found.sections["likelihood"][0].name)
        log p(x), exact
    """
    x = x if isinstance(x, Tensor) else x.rows(torch.arange(len(x)))
    with bar("log p(x)", len(x), unit="data", shown=progress) as shown:

        def report(what: str, done: int, total: int) -> None:
            shown.next(what, total)
            shown.at(done)

        asked = _Evaluator(program, x, seed, compile, report)
        return asked.found(tuple(ks), annealed_data, chains, annealing_steps, levels)


class _Evaluator:
    def __init__(self, program: nn.Module, x: Tensor, seed: int, compile: Tier, report: Report) -> None:
        if len(x) < size():
            raise ValueError(f"{len(x)} data are fewer than the {size()} processes: start fewer")
        self.program, self.x, self.seed, self.compile, self.report = program, x, seed, compile, report
        self.seeds = seeds_of(x, seed)
        self.sections: dict[str, list[Figure]] = {}
        self.per_datum: dict[str, Tensor] = {}
        self.left_out: list[str] = []

    def found(
        self, ks: tuple[int, ...], annealed_data: int, chains: int, annealing_steps: int, levels: int | None
    ) -> Evaluation:
        self._likelihood(ks, levels)
        if not self._has_latents():
            self._rates()
            self.left_out.append(NO_LATENTS)
            return Evaluation(self.sections, self.per_datum, tuple(self.left_out))
        if annealed_data:
            self._try("annealed importance sampling", lambda: self._annealed(annealed_data, chains, annealing_steps))
        self._rates()
        self._try("information", self._information)
        self._bounds_on_information()
        return Evaluation(self.sections, self.per_datum, tuple(self.left_out))

    def _try(self, what: str, ask: Callable[[], None]) -> None:
        """Ask what not every program can answer."""
        try:
            ask()
        except (ValueError, NotImplementedError) as error:
            self.left_out.append(f"{what}: {' '.join(str(error).split())}")

    def _likelihood(self, ks: tuple[int, ...], levels: int | None) -> None:
        told = self._told(f"log p(x), k = {ks[-1]}")
        rows, seeds = self._mine
        mine = importance_sampled(self.program, rows, ks=ks, seed=seeds, compile=self.compile, report=told)
        sampled = over_ranks(mine, len(self.x))
        exact = self._exact()
        figures = sampled.figures
        best = sampled.log_p[:, -1]
        if exact is not None:
            best = exact.log_p
            figures = [mean_of("log p(x), exact", best, note=exact.how), *([] if sampled.exact else figures)]
            self.per_datum["log_p_exact"] = best
        if sampled.fault and exact is None:
            self.left_out.append(f"bits per dimension: {sampled.fault}")
        else:
            figures.append(bits_per_dim(best, self.x[0].numel(), discrete=self._is_discrete(), levels=levels))
        self.sections["likelihood"] = figures
        name = figure_name("log p(x)", sampled.fault)
        self.per_datum |= {VARIABLES[name]: sampled.log_p, "ess": sampled.ess, "khat": sampled.khat}

    def _exact(self) -> Evidence | None:
        try:
            return log_evidence(self.program, self.x)
        except ProgramError as error:
            self.left_out.append(f"log p(x), exact: {error}")
            return None

    def _annealed(self, data: int, chains: int, steps: int) -> None:
        x = self.x[:data]
        found = self._shared(
            "annealing",
            lambda rows, seeds: annealed(self.program, rows, chains=chains, steps=steps, seed=seeds),
            x,
            at_once=1,
        )
        self.sections["annealed importance sampling"] = found.figures
        if (log_p := self.per_datum.get("log_p")) is not None:
            same = mean_of(f"log p(x), importance sampled, the same {len(x)} data", log_p[: len(x), -1])
            self.sections["annealed importance sampling"] += [same]
        self._try("certificate", lambda: self._certificate(len(x), chains, steps))

    def _certificate(self, data: int, chains: int, steps: int) -> None:
        self.report("certificate", 0, 1)
        mine = range(data)[share_of(data)]
        bounds = over_ranks(
            bidirectional(self.program, self.x, data=mine, chains=chains, steps=steps, seed=self.seed), data
        )
        self.sections["annealed importance sampling"] += bounds.figures

    def _rates(self) -> None:
        told = self._told("rate and distortion")
        rows, seeds = self._mine
        mine = rate_distortion(self.program, rows, seed=seeds, compile=self.compile, report=told)
        rates = over_ranks(mine, len(self.x))
        self.sections["rate and distortion"] = rates.figures
        self.per_datum |= {"rate": rates.rate, "distortion": rates.distortion}
        self.per_datum |= {f"rate_{name}": rate for name, rate in rates.rate_sites.items()}
        if len(self.x) > 1 and self._has_latents():
            units = self._shared("active units", lambda x, seeds: active_units(self.program, x, seed=seeds))
            self.sections["rate and distortion"] += units.figures
            self.per_datum |= {f"posterior_mean_{name}": mean for name, mean in units.means.items()}

    def _information(self) -> None:
        self.report("information", 0, len(self.x))
        rows, seeds = self._mine
        found = over_ranks(aggregate_posterior(self.program, rows, aggregate=self.x, seed=seeds), len(self.x))
        self.sections["information"] = found.figures
        self.per_datum |= {"information": found.information, "marginal_kl": found.marginal}

    def _bounds_on_information(self) -> None:
        self.report("bounds on information", 0, 1)
        batch, found = min(CONTRASTED, len(self.x)), self.sections.setdefault("bounds on information", [])
        for ask in (
            lambda: info_nce(self.program, self.x, batch=batch, seed=self.seed),
            lambda: info_nce_of_dreams(self.program, self.x, batch=CONTRASTED, seed=self.seed),
            lambda: barber_agakov(self.program, self.x, seed=self.seed),
        ):
            self._try("bounds on information", lambda ask=ask: found.extend(ask().figures))
        if not found:
            del self.sections["bounds on information"]

    @property
    def _mine(self) -> tuple[Tensor, Seed]:
        """This rank's share of the data, and of their seeds."""
        rows = my_rows(len(self.x))
        return self.x[rows], self.seeds[rows]

    def _told(self, what: str) -> Callable[[int, int], None]:
        """Passes progress on, not of every datum."""

        def tell(done: int, total: int) -> None:
            if done % AT_ONCE == 0 or done == total:
                self.report(what, done, total)

        return tell

    def _shared(
        self, what: str, ask: Callable[[Tensor, Seed], Any], x: Tensor | None = None, at_once: int = AT_ONCE
    ) -> Any:
        """Ask of each rank's share, some data at a time, and join what is found in the order of the data."""
        x = self.x if x is None else x
        mine, seeds = x[share_of(len(x))], self.seeds[share_of(len(x))]
        parts = []
        for rows in mine.split(at_once):
            start = at_once * len(parts)
            parts.append(ask(rows, seeds[start : start + at_once]))
            self.report(what, min(at_once * len(parts), len(mine)), len(mine))
        return over_ranks(joined(parts), len(x))

    def _has_latents(self) -> bool:
        with frozen(self.program, self.x) as pair:
            return has_latents(pair, self.x)

    def _is_discrete(self) -> bool:
        """Whether the data's likelihood is a probability and no density."""
        with frozen(self.program, self.x) as pair:
            sites = sample_sites(pair.run_model(1, pair.run_guide(1, (self.x[:1],), {}), (self.x[:1],), {}))
        return all(site["fn"].support.is_discrete for site in sites.values() if site["is_observed"])
