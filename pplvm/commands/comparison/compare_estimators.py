"""Chooses the estimators that `pplvm compare` measures on a program, and says why others are left out."""

import argparse
import itertools
import re
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from pplvm.catalog import OBJECTIVES
from pplvm.commands.building.builders import build_loss, takes_particles
from pplvm.commands.comparison.budget import particles_within
from pplvm.data.image_data import ImageData
from pplvm.distributed.object_collectives import all_gather_object, error_message
from pplvm.estimators.cost.evaluations import evaluations_per_datum
from pplvm.estimators.failures import left_out_sentences
from pplvm.objectives.objective import Loss, Objective, ObjectiveError
from pplvm.objectives.sites_of_rule import is_pathwise_here, learning_sites
from pplvm.particles.contract import ProgramError, Site
from pplvm.particles.side_effects import cuda_devices

__all__ = ["Choice", "choose_estimators", "named_estimators", "sweep_particles"]

ON_REQUEST = (
    "simple-muprop",
    "per-site",
    "vimco-arithmetic",
    "renyi",
    "tvo",
    "jackknife",
    "thermodynamic",
    "prior-sampling",
    "beta-rloo",
    "beta-analytic-kl",
    "free-bits-rloo",
    "pyro-mean-field",
)
"""Legal, but variations or no rivals of the rest: compared only when named."""


BETWEEN_NAMES = r",(?!\s*[-+.\d])(?![^(\[]*[)\]])"
"""A comma that is not within a setting: before a number, or within brackets."""


@dataclass
class Choice:
    """The estimators chosen for one program, their numbers of particles, and those left out."""

    program: nn.Module
    data: ImageData
    particles: dict[str, int | None] = field(default_factory=dict)  # K by estimator, None without
    failed: set[str] = field(default_factory=set)  # of the names, those that failed when they were run
    notes: dict[str, str] = field(default_factory=dict)  # by estimator
    reasons: dict[str, str] = field(default_factory=dict)  # by estimator that is left out
    repeats: list[str] = field(default_factory=list)  # estimators of the catalog that are pathwise on this guide

    @property
    def left_out(self) -> list[str]:
        """A sentence for each reason why estimators are left out."""
        return [*left_out_sentences(self.reasons), *([_repeating(self.repeats)] if self.repeats else [])]

    def agree(self) -> None:
        """Leave out, on all ranks, what any rank leaves out; all ranks must call it."""
        for names, reasons, repeats in all_gather_object((list(self.particles), self.reasons, self.repeats)):
            self.particles = {name: K for name, K in self.particles.items() if name in names}
            self.reasons, self.repeats = reasons | self.reasons, list(dict.fromkeys([*self.repeats, *repeats]))

    def build(self, name: str, particles: int | None, device: torch.device) -> Loss:
        return build_loss(name, particles, self.program, self.data).to(device)

    def losses(self, device: torch.device) -> dict[str, Loss]:
        """A new loss of each estimator."""
        return {name: self.build(name, K, device) for name, K in self.particles.items()}

    def swept(self, counts: list[int], device: torch.device) -> dict[str, dict[int, Loss]]:
        """Losses of the estimators that have particles, at every K at which they are defined."""
        losses: dict[str, dict[int, Loss]] = {name: {} for name in self.particles}
        for name, K in itertools.product(losses, counts):
            if not name.startswith("pyro-") and takes_particles(name):
                try:
                    losses[name][K] = self.build(name, K, device)
                except ObjectiveError:
                    continue  # leave-one-out at K = 1
        return losses


def named_estimators(text: str | None) -> list[str] | None:
    """The names given with --estimators; None without it.

    A number after a comma goes on with the setting before it, as no estimator's name begins with one.

    Raises:
        ValueError: a name is empty, or there twice.

    Example:
        >>> named_estimators("rloo,tvo@partition=0,0.5,1@num_particles=2,vimco")
        ['rloo', 'tvo@partition=0,0.5,1@num_particles=2', 'vimco']
    """
    if text is None:
        return None
    names = [name.strip() for name in re.split(BETWEEN_NAMES, text)]
    if not all(names):
        raise ValueError(f"--estimators {text!r} has an empty name: separate names by single commas")
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"--estimators names {name} twice; set apart variations as {name}@setting=value")
    return names


def choose_estimators(
    arguments: argparse.Namespace, program: nn.Module, data: ImageData, batch: tuple[Tensor, ...]
) -> Choice:
    """Choose the estimators asked for, by default all of the catalog that are legal for the program.

    One that fails when it is run, otherwise than by a refusal, is left out, and the others go on.

    Raises:
        ValueError: an estimator that was asked for is not legal and this is the only program; or none is left.
    """
    named, alone = named_estimators(arguments.estimators), len(arguments.program) == 1
    choice, sites = Choice(program, data), _sites(program, batch)
    for name in named or [name for name in OBJECTIVES if name not in ON_REQUEST]:
        try:
            with torch.random.fork_rng(cuda_devices(batch)):
                _add(choice, name, arguments, batch, None if named is not None else sites)
                if sites is not None and name in choice.particles:
                    _mark(choice, name, sites, batch)
        except (ObjectiveError, ProgramError) as error:
            if named is not None and alone:
                raise ValueError(f"objective {name}: {error}") from error
            if named is not None:
                choice.reasons[name] = " ".join(str(error).split())
    if not choice.particles:
        raise ValueError(_nothing_left(choice, arguments.budget))
    return choice


def _nothing_left(choice: Choice, budget: int | None) -> str:
    if choice.failed:
        return f"no estimator is left for program {type(choice.program).__name__}: {'; '.join(choice.left_out)}"
    if budget is not None:
        return f"no estimator costs at most {budget} evaluations a datum: raise --budget"
    why = " ".join(choice.left_out) or "name one with --estimators"
    return f"no estimator of the catalog is legal for program {type(choice.program).__name__}: {why}"


def sweep_particles(text: str) -> list[int]:
    """Parse `K=1,2,4` into [1, 2, 4]; an empty text means no sweep.

    Raises:
        ValueError: it reads otherwise.
    """
    try:
        name, _, values = text.partition("=")
        found = sorted({int(value) for value in values.split(",")}) if text else []
        if text and (name != "K" or min(found) < 1):
            raise ValueError
    except ValueError:
        raise ValueError(f"--sweep must read K=1,2,4 with numbers of at least 1, got {text!r}") from None
    return found


def _add(
    choice: Choice, name: str, arguments: argparse.Namespace, batch: tuple[Tensor, ...], sites: dict[str, Site] | None
) -> None:
    """Add an estimator or the reason against it; of the catalog, with `sites`, none that repeats another."""
    particles = arguments.particles if takes_particles(name) else None
    loss = choice.build(name, particles, batch[0].device)
    if sites is not None and isinstance(loss.objective, Objective) and is_pathwise_here(loss.objective, sites):
        choice.repeats.append(name)
        return
    try:
        loss(*batch)
        cost = evaluations_per_datum(loss, batch) if arguments.budget is not None and particles is None else 0.0
    except (ObjectiveError, ProgramError):
        raise
    except Exception as error:
        choice.failed.add(name)
        choice.reasons[name] = error_message(error)
        return
    if arguments.budget is None:
        choice.particles[name] = particles
    elif particles is None:
        _keep_or_leave_out(choice, name, cost, arguments.budget)
    else:
        _fit(choice, name, arguments.budget, batch)


def _keep_or_leave_out(choice: Choice, name: str, cost: float, budget: int) -> None:
    if cost > budget:
        costs = f"it has no particles to set and costs {cost:g} evaluations a datum, above the budget of {budget}"
        choice.reasons[name] = costs
        return
    choice.particles[name] = None
    choice.notes[name] = f"has no particles to set: it takes {cost:g} of the {budget} evaluations, in one draw"


def _fit(choice: Choice, name: str, budget: int, batch: tuple[Tensor, ...]) -> None:
    def cost(particles: int) -> float | None:
        try:
            return evaluations_per_datum(choice.build(name, particles, batch[0].device), batch)
        except Exception:  # as leave-one-out refuses one particle, and a program may fail with several
            return None

    particles = particles_within(budget, cost)
    if particles is None:
        choice.reasons[name] = f"at no K does it cost {budget} evaluations a datum or fewer"
    else:
        choice.particles[name] = particles


REPEATS = "no site of this guide uses its rule, so it is the pathwise gradient of its bound here"


def _repeating(names: list[str]) -> str:
    whose, each = ("its", "it") if len(names) == 1 else ("their", "each")
    return f"{', '.join(names)}: no site of this guide uses {whose} rule, {each} is pathwise here"


def _mark(choice: Choice, name: str, sites: dict[str, Site], batch: tuple[Tensor, ...]) -> None:
    """Note on an estimator that it is the pathwise gradient under another name here."""
    objective = choice.build(name, choice.particles[name], batch[0].device).objective
    if is_pathwise_here(objective, sites):
        choice.notes[name] = "; ".join(note for note in (choice.notes.get(name), REPEATS) if note)


def _sites(program: nn.Module, batch: tuple[Tensor, ...]) -> dict[str, Site] | None:
    """The guide's latents with parameters; None for a program that breaks a rule and is legal for few objectives."""
    try:
        return learning_sites(program, *batch)
    except Exception:  # the estimators will tell of it
        return None
