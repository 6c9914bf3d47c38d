"""Families of gradient rules, by which tables and figures group estimators."""

from pyro.infer import ELBO

from pplvm.objectives.antithetic import ARM, ARMS, DisARM
from pplvm.objectives.biased import (
    BiasedConcrete,
    BiasedPathwise,
    BiasedStraightThrough,
    BiasedStraightThroughGumbel,
)
from pplvm.objectives.biased_codes import BiasedCodeRotation, BiasedCodeStraightThrough
from pplvm.objectives.biased_gumbel_rao import BiasedGumbelRao
from pplvm.objectives.biased_reinmax import BiasedReinMax
from pplvm.objectives.control_variates import REBAR, RELAX, DoubleControlVariate, MuProp
from pplvm.objectives.exact import Exact
from pplvm.objectives.generalized_dreg import GeneralizedDoublyReparameterized
from pplvm.objectives.local_expectation import LocalExpectation
from pplvm.objectives.measure_valued import MeasureValued
from pplvm.objectives.path_gradients import (
    DoublyReparameterized,
    DoublyReparameterizedWakeSleep,
    StickTheLanding,
)
from pplvm.objectives.pathwise import AnalyticKL, Pathwise
from pplvm.objectives.pyro_objective import PyroObjective
from pplvm.objectives.score_function import LeaveOneOut, ScoreFunction
from pplvm.objectives.thermodynamic import Thermodynamic
from pplvm.objectives.wake_sleep import ReweightedWakeSleep, WakeSleep

__all__ = ["RULES", "rule_of"]

RULES: dict[str, tuple[type, ...]] = {
    "biased relaxation": (
        BiasedConcrete,
        BiasedStraightThrough,
        BiasedStraightThroughGumbel,
        BiasedGumbelRao,
        BiasedReinMax,
        BiasedCodeStraightThrough,
        BiasedCodeRotation,
        BiasedPathwise,
    ),
    "pathwise": (
        Pathwise,
        AnalyticKL,
        StickTheLanding,
        DoublyReparameterized,
        GeneralizedDoublyReparameterized,
    ),
    "score function": (ScoreFunction, LeaveOneOut, Thermodynamic),
    "antithetic draws": (ARM, ARMS, DisARM),
    "control variate": (MuProp, REBAR, RELAX, DoubleControlVariate),
    "enumeration": (Exact, LocalExpectation),
    "measure-valued": (MeasureValued,),
    "wake-sleep": (WakeSleep, ReweightedWakeSleep, DoublyReparameterizedWakeSleep),
    "Pyro's own": (PyroObjective,),
}
"""Objectives by the family of their rule; the first that fits is taken, since a biased one may inherit another."""

OTHER = "another rule"


def rule_of(objective: ELBO) -> str:
    """The family of an objective's rule, within wrappers such as `Beta`; "another rule" for a user's own.

    Example:
        >>> from pplvm.objectives.tempered import Beta
        >>> rule_of(LeaveOneOut()), rule_of(Beta(Pathwise(), 4.0)), rule_of(BiasedPathwise())
        ('score function', 'pathwise', 'biased relaxation')
    """
    inner = getattr(objective, "inner", None)
    if isinstance(inner, ELBO):
        return rule_of(inner)
    known = (rule for rule, classes in RULES.items() if isinstance(objective, classes))
    return next(known, "Pyro's own" if type(objective).__module__.startswith("pyro.") else OTHER)
