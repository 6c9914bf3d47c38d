"""All that is asked of a trained program in one go: figures by section, and each datum's terms behind them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from pplvm.distributed import gathered, my_rows, size
from pplvm.evaluation.annealed import annealed
from pplvm.evaluation.bidirectional import bidirectional
from pplvm.evaluation.evidence import log_evidence
from pplvm.evaluation.figures import Figure, mean_of
from pplvm.evaluation.information import aggregate_posterior
from pplvm.evaluation.information_bounds import barber_agakov, info_nce, info_nce_of_dreams
from pplvm.evaluation.likelihood import bits_per_dim, importance_sampled
from pplvm.evaluation.one_by_one import frozen
from pplvm.evaluation.rates import rate_distortion
from pplvm.evaluation.units import active_units
from pplvm.graphs.compiled import Tier
from pplvm.particles.contract import sample_sites

__all__ = ["Evaluation", "evaluate"]

AT_ONCE = 50
"""Data between two reports of progress; the figures do not depend on it."""

CONTRASTED = 100
"""Data in a batch of InfoNCE."""

Report = Callable[[str, int, int], None]
"""Told what is being done, how many data are done, and of how many."""


@dataclass(frozen=True)
class Evaluation:
    """What was found.

    Arguments:
        sections: figures under their headings, in the order of a report.
        per_datum: terms behind the figures, (N,) or (N, k) each, float64.
        left_out: what could not be asked of this program, and why, a sentence each.
    """

    sections: dict[str, list[Figure]]
    per_datum: dict[str, Tensor]
    left_out: tuple[str, ...]


def evaluate(
    program: nn.Module,
    x: Tensor,
    *,
    ks: Sequence[int] = (1, 10, 100, 1000, 5000),
    annealed_data: int = 0,
    chains: int = 16,
    annealing_steps: int = 500,
    levels: int | None = None,
    seed: int = 0,
    compile: Tier = "auto",
    report: Report = lambda *progress: None,
) -> Evaluation:
    """Judge a program on data: log p(x), rate and distortion, active units, information, by every rank its share.

    Arguments:
        program: with methods model(x) and guide(x).
        x: data (N, *shape), the same on all ranks.
        ks: particles of the importance-sampled log p(x), rising.
        annealed_data: how many of the data get annealed importance sampling, and how many are simulated for its
            certificate; 0 for none.
        chains, annealing_steps: of each of them.
        levels: grey levels of the data, for bits per dimension.
        seed: of all draws; a datum's depend on it and on the datum's values alone.
        compile: "off" for the program's handlers, "graph" or "inductor" for one graph of it, "auto" for what pays.
        report: is told of progress.

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
    return _Evaluator(program, x, seed, compile, report).found(
        tuple(ks), annealed_data, chains, annealing_steps, levels
    )


class _Evaluator:
    def __init__(self, program: nn.Module, x: Tensor, seed: int, compile: Tier, report: Report) -> None:
        if len(x) < size():
            raise ValueError(f"{len(x)} data are fewer than the {size()} processes: start fewer")
        self.program, self.x, self.seed, self.compile, self.report = program, x, seed, compile, report
        self.sections: dict[str, list[Figure]] = {}
        self.per_datum: dict[str, Tensor] = {}
        self.left_out: list[str] = []

    def found(
        self, ks: tuple[int, ...], annealed_data: int, chains: int, annealing_steps: int, levels: int | None
    ) -> Evaluation:
        self._likelihood(ks, levels)
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
        mine = importance_sampled(self.program, self._mine, ks=ks, seed=self.seed, compile=self.compile, report=told)
        sampled = _over_ranks(mine, len(self.x))
        exact = log_evidence(self.program, self.x)
        figures = sampled.figures
        best = sampled.log_p[:, -1]
        if exact is not None:
            best = exact.log_p
            figures = [mean_of("log p(x), exact", best, note=exact.how), *figures]
            self.per_datum["log_p_exact"] = best
        bits = bits_per_dim(best, self.x[0].numel(), discrete=self._is_discrete(), levels=levels)
        if sampled.fault and exact is None:
            bits = replace(bits, note=f"{bits.note}; {sampled.fault}")
        figures.append(bits)
        self.sections["likelihood"] = figures
        self.per_datum |= {"log_p": sampled.log_p, "ess": sampled.ess, "khat": sampled.khat}

    def _annealed(self, data: int, chains: int, steps: int) -> None:
        x = self.x[:data]
        found = self._shared(
            "annealing",
            lambda rows: annealed(self.program, rows, chains=chains, steps=steps, seed=self.seed),
            x,
            at_once=1,
        )
        same = mean_of(f"log p(x), importance sampled, the same {len(x)} data", self.per_datum["log_p"][: len(x), -1])
        self.sections["annealed importance sampling"] = [*found.figures, same]
        self._try("certificate", lambda: self._certificate(len(x), chains, steps))

    def _certificate(self, data: int, chains: int, steps: int) -> None:
        self.report("certificate", 0, 1)
        mine = range(data)[_rows(data)]
        bounds = _over_ranks(
            bidirectional(self.program, self.x, data=mine, chains=chains, steps=steps, seed=self.seed), data
        )
        self.sections["annealed importance sampling"] += bounds.figures

    def _rates(self) -> None:
        told = self._told("rate and distortion")
        mine = rate_distortion(self.program, self._mine, seed=self.seed, compile=self.compile, report=told)
        rates = _over_ranks(mine, len(self.x))
        self.sections["rate and distortion"] = rates.figures
        self.per_datum |= {"rate": rates.rate, "distortion": rates.distortion}
        self.per_datum |= {f"rate_{name}": rate for name, rate in rates.rate_sites.items()}
        if len(self.x) > 1:
            units = self._shared("active units", lambda x: active_units(self.program, x, seed=self.seed))
            self.sections["rate and distortion"] += units.figures
            self.per_datum |= {f"posterior_mean_{name}": mean for name, mean in units.means.items()}

    def _information(self) -> None:
        self.report("information", 0, len(self.x))
        found = _over_ranks(
            aggregate_posterior(self.program, self._mine, aggregate=self.x, seed=self.seed), len(self.x)
        )
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
    def _mine(self) -> Tensor:
        """This rank's share of the data."""
        return self.x[my_rows(len(self.x))]

    def _told(self, what: str) -> Callable[[int, int], None]:
        """Passes progress on, not of every datum."""

        def tell(done: int, total: int) -> None:
            if done % AT_ONCE == 0 or done == total:
                self.report(what, done, total)

        return tell

    def _shared(self, what: str, ask: Callable[[Tensor], Any], x: Tensor | None = None, at_once: int = AT_ONCE) -> Any:
        """Ask of each rank's share, some data at a time, and join what is found in the order of the data."""
        x = self.x if x is None else x
        mine = x[_rows(len(x))]
        parts = []
        for rows in mine.split(at_once):
            parts.append(ask(rows))
            self.report(what, min(at_once * len(parts), len(mine)), len(mine))
        return _over_ranks(_joined(parts), len(x))

    def _is_discrete(self) -> bool:
        """Whether the data's likelihood is a probability and no density."""
        with frozen(self.program, self.x) as pair:
            sites = sample_sites(pair.run_model(1, pair.run_guide(1, (self.x[:1],), {}), (self.x[:1],), {}))
        return all(site["fn"].support.is_discrete for site in sites.values() if site["is_observed"])


def _joined(parts: Iterable[Any]) -> Any:
    """Results of some data each as one result of all."""
    parts = list(parts)
    return _with_tensors(parts[0], lambda name, key: torch.cat([_tensor(part, name, key) for part in parts]))


def _rows(n: int) -> slice:
    """This rank's share of n data; each has all of them where they are fewer than ranks."""
    return slice(None) if n < size() else my_rows(n)


def _over_ranks(mine: Any, n: int) -> Any:
    """Each rank's result of its share as one result of all n data."""
    if size() == 1 or n < size():
        return mine
    return _with_tensors(mine, lambda name, key: gathered(_tensor(mine, name, key), n))


def _with_tensors(result: Any, tensor: Callable[[str, str | None], Tensor]) -> Any:
    """A result with its tensors, and those in its dictionaries, replaced."""
    found: dict[str, Any] = {}
    for field in fields(result):
        value = getattr(result, field.name)
        if isinstance(value, Tensor):
            found[field.name] = tensor(field.name, None)
        elif isinstance(value, dict):
            found[field.name] = {key: tensor(field.name, key) for key in value}
    return replace(result, **found)


def _tensor(result: Any, name: str, key: str | None) -> Tensor:
    value = getattr(result, name)
    return value if key is None else value[key]
