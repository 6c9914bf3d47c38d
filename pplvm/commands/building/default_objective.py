"""What a program is trained by where no option tells: its own objective and penalties, if it names any."""

from collections.abc import Sequence

from pyro.infer import ELBO
from torch import nn

from pplvm.objectives.objective import Objective
from pplvm.objectives.penalized import Penalized

__all__ = ["objectives_for", "penalized"]


def objectives_for(program: nn.Module, typed: str | None) -> list[str]:
    """The names of objectives to try in turn: the one typed, else the program's `default_objective`, else the usual.

    Example:
        >>> objectives_for(nn.Linear(2, 2), None)
        ['pathwise', 'rloo']
    """
    name = typed or getattr(program, "default_objective", None)
    return [name] if name else ["pathwise", "rloo"]


def penalized(objective: ELBO, program: nn.Module, typed: Sequence[str] = ()) -> ELBO:
    """An objective with the program's `default_penalties`, if it runs the guide, whose sites they are.

    Arguments:
        typed: NAME=WEIGHT each, beside or in place of the program's own.
    """
    runs_guide = isinstance(objective, Objective) and objective.uses_guide
    penalties = dict(getattr(program, "default_penalties", {})) if runs_guide or typed else {}
    for words in typed:
        name, _, weight = words.partition("=")
        penalties[name] = float(weight)
    return Penalized(objective, penalties) if penalties else objective
