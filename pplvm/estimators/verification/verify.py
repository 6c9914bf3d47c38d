"""Verification of an estimator on tiny programs whose gradients are known, by enumeration where that is possible.

Where the guide's draws are all the randomness there is, every draw of K particles is put in by hand and the mean
gradient comes out exactly. Where the estimator draws more (antithetic partners, relaxations, paths), many
gradients are drawn, and Hotelling's test says what could have been seen.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from pyro.infer import ELBO, SVI
from pyro.ops.provenance import get_provenance, track_provenance
from pyro.poutine.messenger import Messenger
from torch import Tensor

from pplvm.batch import as_tuple
from pplvm.estimators.baselines import train_baseline
from pplvm.estimators.references.target import target_of
from pplvm.estimators.statistics.bias import bias_test
from pplvm.estimators.statistics.moments import Covariance
from pplvm.estimators.verification.known_gradients import KNOWN, Known, Tables, tables_of, true_gradient
from pplvm.objectives.objective import Loss, ObjectiveError
from pplvm.objectives.tempered_bound import TemperedBound
from pplvm.particles.contract import ProgramError

__all__ = ["Finding", "verify"]

MOST_TUPLES = 300
"""Draws put in one by one, each a few milliseconds."""

ROWS, ALPHA = 2000, 1e-4
"""Copies of the datum in one gradient; the chance of calling a right estimator biased, per program."""


LARGE = 0.1
"""Share of the gradient's norm from which on a tensor must show its bias."""


@dataclass(frozen=True)
class Finding:
    """The verdict on an estimator by one program."""

    program: str
    verdict: str  # "unbiased", "biased", "undecided", "refused" or "broken"
    reason: str  # in words: how it was found, how large the bias is, where; or why not


def verify(build: Callable[[Tensor], ELBO], draws: int = 120, known: tuple[Known, ...] = KNOWN) -> Iterator[Finding]:
    """Test an estimator on each known program; yields one finding for each.

    Arguments:
        build: makes a fresh objective for programs of such data (1, ...).
        draws: gradients, each the mean over 2,000 copies of the datum, where enumeration is not possible.

    Example:
        >>> from pplvm.bounds import elbo
        >>> from pplvm.objectives.score_function import LeaveOneOut
        >>> first = next(verify(lambda x: LeaveOneOut(elbo, 2)))
        >>> first.verdict, first.program
        ('unbiased', 'one layer of 2 Bernoullis')
    """
    default, state, threads = torch.get_default_dtype(), torch.get_rng_state(), torch.get_num_threads()
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)  # tensors this small only wait for each other
    try:
        with pyro.get_param_store().scope():
            for one in known:
                yield _finding(one, build, draws)
    finally:
        torch.set_default_dtype(default)
        torch.set_rng_state(state)
        torch.set_num_threads(threads)


def _finding(known: Known, build: Callable[[Tensor], ELBO], draws: int) -> Finding:
    torch.manual_seed(0)
    try:
        verdict, reason = _tried(known, build, draws)
    except (ObjectiveError, ProgramError, NotImplementedError) as error:  # the last is how Pyro's own refuse
        verdict, reason = "refused", str(error)
    except _Broken as error:
        verdict, reason = "broken", str(error)
    except Exception as error:  # whatever a user's estimator may do
        verdict, reason = "broken", f"{type(error).__name__}: {' '.join(str(error).split())}"
    return Finding(known.title, verdict, reason)


class _Broken(Exception):
    """The estimator fails to give a gradient."""


def _tried(known: Known, build: Callable[[Tensor], ELBO], draws: int) -> tuple[str, str]:
    program, args = known.build(), as_tuple(known.x)
    args = tuple(part.double() if part.is_floating_point() else part for part in args)
    loss = Loss(build(args[0]), program).double()
    _require_a_gradient(loss, args)
    if getattr(loss, "control", None) is not None:
        train_baseline(loss, [_copies(args)], 30)
    _require_the_same_in_svi(loss, args)
    target, _ = target_of(loss)
    tables = tables_of(program, args, tempering=target.tempering() if isinstance(target, TemperedBound) else None)
    truth = _truth(loss, tables)
    if truth is None:
        return "undecided", "what it estimates has no known gradient here"
    names = [f"{n}[{i}]" for n, p in program.named_parameters() for i in range(p.numel())]
    _require_the_bound(loss, args)
    mean = _mean_over_all_draws(loss, args, tables) if tables.is_discrete else None
    if mean is not None:
        verdict, reason = _verdict_exactly(mean, truth, names)
        if verdict == "unbiased":  # of one datum; data must not meet in a batch
            of_batch, found = _verdict_by_draws(loss, args, truth, names, draws)
            if of_batch == "biased":
                return of_batch, f"exact for one datum, but not in a batch of {ROWS:,}: {found}"
        return verdict, reason
    return _verdict_by_draws(loss, args, truth, names, draws)


def _truth(loss: Loss, tables: Tables) -> Tensor | None:
    """The known gradient of the loss, (P,); None where it is unknown."""
    target, K = target_of(loss)
    if callable(target):
        gradient, _ = true_gradient(loss.program, tables, target, K)
        return -torch.cat([g.flatten() for g in gradient])
    of_tables = getattr(target, "of_tables", None)
    if of_tables is None or not tables.is_discrete:
        return None
    value = of_tables(tables.log_p.unsqueeze(-1), tables.log_q.unsqueeze(-1)).sum()
    return -_flat(torch.autograd.grad(value, list(loss.program.parameters()), allow_unused=True), loss)


def _require_a_gradient(loss: Loss, args: tuple[Tensor, ...]) -> None:
    value = loss(*args)
    if not isinstance(value, Tensor) or value.dim():
        raise _Broken(f"differentiable_loss must give a scalar tensor, got {value!r}")
    if not value.isfinite():
        raise _Broken(f"the loss is {value.item()}")
    if not value.requires_grad:
        raise _Broken("the loss has no gradient")
    gradient = _gradient(loss, args)
    if not gradient.isfinite().all():
        raise _Broken("the gradient is not finite")


def _require_the_same_in_svi(loss: Loss, args: tuple[Tensor, ...]) -> None:
    model, guide = loss.program.model, loss.program.guide
    with torch.no_grad():
        torch.manual_seed(1)
        ours = float(loss(*args))
        torch.manual_seed(1)
        theirs = SVI(model, guide, pyro.optim.SGD({"lr": 0.0}), loss.objective).evaluate_loss(*args)
    if not math.isclose(ours, theirs, rel_tol=1e-9):
        raise _Broken(f"pyro.infer.SVI reports {theirs:.6g} where the loss is {ours:.6g} from the same seed")


def _require_the_bound(loss: Loss, args: tuple[Tensor, ...]) -> None:
    """Require that the reported value has the mean of the untempered bound, where the target is a bound."""
    target, K = target_of(loss)
    bound = target.bound if isinstance(target, TemperedBound) else target
    if not callable(bound):
        return
    _, value = true_gradient(loss.program, tables_of(loss.program, args), bound, K)
    rows = _copies(args)
    with torch.no_grad():
        found = torch.stack([-loss(*rows) for _ in range(30)])
    if abs(float(found.mean()) - value) > 7 * float(found.std()) / 30**0.5 + 1e-6 * abs(value):
        raise _Broken(f"it reports {float(found.mean()):.4g} nats where the bound is {value:.4g}")


def _mean_over_all_draws(loss: Loss, args: tuple[Tensor, ...], tables: Tables) -> Tensor | None:
    """The mean gradient over all draws of K particles; None if they are too many."""
    S, K = len(tables.log_p), loss.objective.num_particles
    if S**K > MOST_TUPLES:
        return None
    total = torch.zeros(sum(p.numel() for p in loss.program.parameters()))
    for states in itertools.product(range(S), repeat=K):
        rows = torch.tensor(states)
        values = {name: v[rows] if K > 1 else v[rows[0]] for name, v in tables.values.items()}
        with _Given({name: v.unsqueeze(1) if K > 1 else v.unsqueeze(0) for name, v in values.items()}):
            before = torch.get_rng_state()
            gradient = _gradient(loss, args)
        if not torch.equal(before, torch.get_rng_state()):
            return None
        total = total + tables.log_mass[rows].sum().exp().detach() * gradient
    return total


def _verdict_exactly(mean: Tensor, truth: Tensor, names: list[str]) -> tuple[str, str]:
    gap = float((mean - truth).norm() / truth.norm())
    if gap < 1e-8:
        return "unbiased", f"exactly: all its draws enumerated, the mean gradient is right to {gap:.0e} of its norm"
    return (
        "biased",
        f"by {_percent(gap)} of the gradient's norm, exactly (all draws enumerated); {_worst(mean, truth, names)}",
    )


def _verdict_by_draws(
    loss: Loss, args: tuple[Tensor, ...], truth: Tensor, names: list[str], draws: int
) -> tuple[str, str]:
    """The verdict of Hotelling's test; what it can miss is reported for the worst parameter tensor."""
    rows = _copies(args)
    owners = torch.cat([torch.full((p.numel(),), float(n)) for n, p in enumerate(loss.program.parameters())])
    parts = torch.stack([truth * (owners == n) for n in owners.unique()])
    parts = parts[parts.norm(dim=1) > LARGE * truth.norm()]
    found = Covariance(len(truth))
    for _ in range(draws):
        found.add(_gradient(loss, rows))
    test = bias_test(found.mean - truth, found.matrix / draws, draws, parts, ALPHA)
    gap = float((found.mean - truth).norm() / truth.norm())
    drawn = f"{draws * ROWS:,} draws"
    if test.verdict == "biased":
        return (
            "biased",
            f"by about {_percent(gap)} of the gradient's norm ({drawn}); {_worst(found.mean, truth, names)}",
        )
    seen = f"a bias of {_percent(test.detectable)} in any tensor of parameters"
    if test.verdict == "unbiased":
        return "unbiased", f"{drawn}, which would have shown {seen}"
    return "undecided", f"{drawn} could have missed {seen}: ask for more with --draws"


def _worst(mean: Tensor, truth: Tensor, names: list[str]) -> str:
    place = int((mean - truth).abs().argmax())
    return f"worst at {names[place]}, {mean[place]:.4g} for {truth[place]:.4g}"


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"


def _copies(args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The datum and its conditions, many times."""
    return tuple(part.expand(ROWS, *part.shape[1:]) for part in args)


def _gradient(loss: Loss, args: tuple[Tensor, ...]) -> Tensor:
    return _flat(torch.autograd.grad(loss(*args), list(loss.program.parameters()), allow_unused=True), loss)


def _flat(found: tuple[Tensor | None, ...], loss: Loss) -> Tensor:
    parts = [torch.zeros_like(p) if g is None else g for p, g in zip(loss.program.parameters(), found, strict=True)]
    return torch.cat([part.flatten() for part in parts])


class _Given(Messenger):
    """A Pyro messenger that gives each latent a value the first time it is drawn."""

    def __init__(self, values: dict[str, Tensor]) -> None:
        super().__init__()
        self.values = dict(values)

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self.values and not msg["done"] and not msg["is_observed"]:
            with torch.random.fork_rng([]):  # a draw carries what it depends on, which Pyro's TraceGraph_ELBO reads
                trail = get_provenance(msg["fn"].sample())
            msg["value"], msg["done"] = track_provenance(self.values.pop(msg["name"]), trail), True
