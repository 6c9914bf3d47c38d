"""Evaluates a trained program: runs all evaluations that it allows, and says which are left out."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from pplvm.batch import Batch, as_tuple, batch_rows, without_conditions
from pplvm.distributed.progress import bar
from pplvm.distributed.ranks import my_rows, size
from pplvm.evaluation.active_units import active_units
from pplvm.evaluation.annealing.annealed import annealed
from pplvm.evaluation.annealing.bidirectional import bidirectional
from pplvm.evaluation.code_rates import code_figures
from pplvm.evaluation.code_usage import code_usage
from pplvm.evaluation.encoding import code_sites
from pplvm.evaluation.evaluation import OBSERVED, VARIABLES, Evaluation, Rows
from pplvm.evaluation.evidence import Evidence, has_discrete_data, has_latents, log_evidence
from pplvm.evaluation.figures import Figure, mean_of
from pplvm.evaluation.information import aggregate_posterior
from pplvm.evaluation.information_bounds import barber_agakov, info_nce, info_nce_of_dreams
from pplvm.evaluation.information_sizes import information_sizes
from pplvm.evaluation.likelihood import bits_per_dim, importance_sampled
from pplvm.evaluation.likelihood_names import likelihood_names, observing
from pplvm.evaluation.per_datum import Seed, datum_seeds, evaluation_mode
from pplvm.evaluation.proposals import proposal_for
from pplvm.evaluation.rate_distortion import rate_distortion
from pplvm.evaluation.sharded_results import concatenate_results, gather_results, rank_slice
from pplvm.graphs.compiled import Tier
from pplvm.particles.contract import ProgramError

__all__ = ["Evaluation", "NO_LATENTS", "evaluate"]

AT_ONCE = 50
"""Data between two reports of progress; the figures do not depend on it."""

NO_LATENTS = (
    "importance sampling, annealing, active units and information: the program has no latents, and its log-likelihood "
    "is exact"
)

Report = Callable[[str, int, int], None]
"""Told what is being done, how many data are done, and of how many."""


def evaluate(
    program: nn.Module,
    x: Batch | Rows,
    *,
    ks: Sequence[int] = (1, 10, 100, 1000, 5000),
    annealed_data: int = 0,
    chains: int = 16,
    annealing_steps: int = 500,
    information_data: int | None = None,
    levels: int | None = None,
    seed: int = 0,
    compile: Tier = "auto",
    progress: bool | None = None,
) -> Evaluation:
    """Evaluate a program on data: log p(x), rate, distortion, active units, information; ranks share the data.

    Arguments:
        program: with methods model(x) and guide(x), or model(x, y) and guide(x, y) of conditions.
        x: data (N, *shape), data and their conditions (x, y), or a data set of pplvm, the same on all ranks. Figures
            are named after what the data set calls its conditions, else after the model's own arguments.
        ks: particles of the importance-sampled log p(x), rising.
        annealed_data: how many of the data get annealed importance sampling, and how many are simulated for its
            certificate; 0 for none.
        chains, annealing_steps: of each of them.
        information_data: how many of the data information is told of, evenly spread, at least 2; 0 for none, None for
            all, or as many as `information_sizes` finds affordable.
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
    names = ()
    if not isinstance(x, Tensor | tuple | list):
        data: Any = x
        if not hasattr(data, "spec"):
            raise TypeError(
                f"x is a {type(data).__name__}: give a tensor, a tuple (x, y) of them, or a data set of pplvm"
            )
        names, x = data.spec.conditions, data.batch(torch.arange(len(data)))
    parts = as_tuple(x)
    with bar("log p(x)", len(parts[0]), unit="data", shown=progress) as shown:

        def report(what: str, done: int, total: int) -> None:
            shown.next(what, total)
            shown.at(done)

        asked = _Evaluator(program, parts, names, seed, compile, report)
        return asked.found(tuple(ks), annealed_data, chains, annealing_steps, information_data, levels)


class _Evaluator:
    def __init__(
        self,
        program: nn.Module,
        parts: tuple[Tensor, ...],
        names: Sequence[str],
        seed: int,
        compile: Tier,
        report: Report,
    ) -> None:
        self.N = len(parts[0])
        if self.N < size():
            raise ValueError(f"{self.N} data are fewer than the {size()} processes: start fewer")
        self.program, self.parts, self.x = program, parts, without_conditions(parts)
        self.seed, self.compile, self.report = seed, compile, report
        self.seeds = datum_seeds(self.x, seed)
        with evaluation_mode(program, self.x) as pair:
            self.names = likelihood_names(pair, self.x, names)
            self.observing = None if self.names.every else observing(pair, self.x)  # (N,)
            self.has_latents = has_latents(pair, self.x)
        self.sections: dict[str, list[Figure]] = {}
        self.per_datum: dict[str, Tensor] = {}
        self.left_out: list[str] = []

    def found(
        self,
        ks: tuple[int, ...],
        annealed_data: int,
        chains: int,
        annealing_steps: int,
        information_data: int | None,
        levels: int | None,
    ) -> Evaluation:
        self._likelihood(ks, levels)
        if annealed_data and self.has_latents:
            self._try("annealed importance sampling", lambda: self._annealed(annealed_data, chains, annealing_steps))
        self._rates()
        if self.has_latents:
            usage = self._shared("codes used", lambda x, seeds: code_usage(self.program, x, seed=seeds))
            self.sections |= {"code usage": usage.figures} if usage.counts else {}
            self._try("information", lambda: self._information(information_data))
        else:
            self.left_out.append(NO_LATENTS)
        return Evaluation(self.sections, self.per_datum, tuple(self.left_out), self.names)

    def _try(self, what: str, ask: Callable[[], None]) -> None:
        """Run one evaluation that not every program allows, and note why it is left out if it fails."""
        try:
            ask()
        except (ValueError, NotImplementedError) as error:
            self.left_out.append(f"{what}: {' '.join(str(error).split())}")

    def _likelihood(self, ks: tuple[int, ...], levels: int | None) -> None:
        told = self._told(f"{self.names.log_p}, k = {ks[-1]}")
        rows, seeds = self._mine
        proposal = proposal_for(self.program, self.x, ks, self.seed)
        mine = importance_sampled(proposal.program, rows, ks=ks, seed=seeds, compile=self.compile, report=told)
        sampled, exact = self._named(gather_results(replace(mine, of=proposal.of), self.N)), self._exact()
        figures = [*sampled.figures, *proposal.figures]
        best = sampled.log_p[:, -1]
        if exact is not None:
            best = exact.log_p
            figures = [*exact.figures, *([] if sampled.exact else figures)]
            self.per_datum["log_p_exact"] = best
        fault = sampled.fault if exact is None else ""
        if why := fault or self.names.why_no_bits:
            self.left_out.append(f"bits per dimension: {why}")
        else:
            discrete, D = self._is_discrete(), self.parts[0][0].numel()
            figures.append(bits_per_dim(best, D, discrete=discrete, levels=levels, given=self.names.given))
        self.sections["likelihood"] = [*figures, *([] if fault else self._apart(best))]
        self.per_datum |= {VARIABLES[bool(sampled.fault)]: sampled.log_p, "ess": sampled.ess, "khat": sampled.khat}

    def _apart(self, log_p: Tensor) -> list[Figure]:
        """Split log p into data whose conditions the model observes and the others, where there are both."""
        if self.observing is None:
            return []
        self.per_datum[OBSERVED] = self.observing.double()
        known, other = replace(self.names, every=True), replace(self.names, observed=())
        found = (log_p[self.observing], log_p[~self.observing])
        return [
            mean_of(f"{of.log_p}, of {len(each):,} data", each) for of, each in zip((known, other), found, strict=True)
        ]

    def _named(self, found: Any) -> Any:
        """A result with the names of its likelihood, which a part of the data cannot tell."""
        return None if found is None else replace(found, names=self.names)

    def _exact(self) -> Evidence | None:
        try:
            found = log_evidence(self.program, self._mine[0], partial(self.report, "log p(x), exact: joint states"))
            return None if found is None else self._named(gather_results(found, self.N))
        except ProgramError as error:
            self.left_out.append(f"{self.names.log_p}, exact: {error}")
            return None

    def _annealed(self, data: int, chains: int, steps: int) -> None:
        x = batch_rows(self.parts, slice(data))
        found = self._shared(
            "annealing",
            lambda rows, seeds: annealed(self.program, rows, chains=chains, steps=steps, seed=seeds),
            x,
            at_once=1,
        )
        self.sections["annealed importance sampling"] = self._named(found).figures
        if (log_p := self.per_datum.get("log_p")) is not None:
            same = mean_of(f"{self.names.log_p}, importance sampled, the same {len(x[0])} data", log_p[:data, -1])
            self.sections["annealed importance sampling"] += [same]
        self._try("certificate", lambda: self._certificate(len(x[0]), chains, steps))

    def _certificate(self, data: int, chains: int, steps: int) -> None:
        self.report("certificate", 0, 1)
        mine = range(data)[rank_slice(data)]
        bounds = gather_results(
            bidirectional(self.program, self.x, data=mine, chains=chains, steps=steps, seed=self.seed), data
        )
        self.sections["annealed importance sampling"] += bounds.figures

    def _rates(self) -> None:
        told = self._told("rate and distortion")
        rows, seeds = self._mine
        mine = rate_distortion(self.program, rows, seed=seeds, compile=self.compile, report=told)
        rates = self._named(gather_results(mine, self.N))
        self.sections["rate and distortion"] = rates.figures
        self.per_datum |= {"rate": rates.rate, "distortion": rates.distortion}
        self.per_datum |= {f"rate_{name}": rate for name, rate in rates.rate_sites.items()}
        if sites := {} if rates.fault else code_sites(self.program, self.x):
            self.sections["codes"] = code_figures(rates, sites, self.parts[0][0].numel(), self._is_discrete())
        if self.N > 1 and self.has_latents:
            units = self._shared("active units", lambda x, seeds: active_units(self.program, x, seed=seeds))
            self.sections["rate and distortion"] += units.figures
            self.per_datum |= {f"posterior_mean_{name}": mean for name, mean in units.means.items()}

    def _information(self, data: int | None) -> None:
        sizes = information_sizes(self.program, self.x, data)
        x, share = without_conditions(batch_rows(self.parts, sizes.rows)), rank_slice(len(sizes.rows))
        if sizes.why:
            self.left_out.append(f"information of the other {self.N - len(sizes.rows):,} data: {sizes.why}")
        self._try("information", lambda: self._surgery(x, [self.seeds[row] for row in sizes.rows][share], share))
        self.report("bounds on information", 0, 1)
        found: list[Figure] = []
        for ask in (
            lambda: info_nce(self.program, x, batch=sizes.batch, seed=self.seed),
            lambda: info_nce_of_dreams(self.program, x, batch=sizes.dreamt, batches=sizes.batches, seed=self.seed),
            lambda: barber_agakov(self.program, x, draws=sizes.draws, seed=self.seed),
        ):
            self._try("bounds on information", lambda ask=ask: found.extend(self._named(ask()).figures))
        if found:
            self.sections["bounds on information"] = found

    def _surgery(self, x: Batch, seeds: Seed, share: slice) -> None:
        M = len(as_tuple(x)[0])
        self.report("information", 0, M)
        mine = without_conditions(batch_rows(as_tuple(x), share))
        found = self._named(gather_results(aggregate_posterior(self.program, mine, aggregate=x, seed=seeds), M))
        self.sections["information"] = found.figures
        if M == self.N:
            self.per_datum |= {"information": found.information, "marginal_kl": found.marginal}

    @property
    def _mine(self) -> tuple[Batch, Seed]:
        """This rank's share of the data and of their seeds."""
        rows = my_rows(self.N)
        return without_conditions(batch_rows(self.parts, rows)), self.seeds[rows]

    def _told(self, what: str) -> Callable[[int, int], None]:
        """A callback that reports progress, though not for every datum."""

        def tell(done: int, total: int) -> None:
            if done % AT_ONCE == 0 or done == total:
                self.report(what, done, total)

        return tell

    def _shared(
        self, what: str, ask: Callable[[Batch, Seed], Any], x: tuple[Tensor, ...] | None = None, at_once: int = AT_ONCE
    ) -> Any:
        """Evaluate each rank's share in chunks, and gather the results in the order of the data."""
        x = self.parts if x is None else x
        share = rank_slice(len(x[0]))
        mine, seeds, found = batch_rows(x, share), self.seeds[: len(x[0])][share], []
        for start in range(0, len(seeds), at_once):
            some = slice(start, start + at_once)
            found.append(ask(without_conditions(batch_rows(mine, some)), seeds[some]))
            self.report(what, min(start + at_once, len(seeds)), len(seeds))
        return gather_results(concatenate_results(found), len(x[0]))

    def _is_discrete(self) -> bool:
        with evaluation_mode(self.program, self.x) as pair:
            return has_discrete_data(pair, self.x)
