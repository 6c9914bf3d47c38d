"""Deep latent variable models as Pyro programs, under any estimator that is legal for them.

Names stand here in the order of the data's path; each is imported when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pplvm.bounds import elbo, iwae, jackknife, renyi, tvo
    from pplvm.data.batches import batches
    from pplvm.data.binarization import binarize
    from pplvm.data.images import binarized_mnist, digits, fashion_mnist, mnist
    from pplvm.evaluation.gradients import compare_gradients
    from pplvm.evaluation.verification import verify
    from pplvm.objectives.antithetic import ARM, ARMS, DisARM
    from pplvm.objectives.baselines import LearnedBaseline, MovingAverage
    from pplvm.objectives.biased import BiasedConcrete, BiasedStraightThrough, BiasedStraightThroughGumbel
    from pplvm.objectives.control_variates import REBAR, RELAX, DoubleControlVariate, MuProp
    from pplvm.objectives.exact import Exact, PriorSampling
    from pplvm.objectives.generalized_dreg import GeneralizedDoublyReparameterized
    from pplvm.objectives.local_expectation import LocalExpectation
    from pplvm.objectives.measure_valued import MeasureValued
    from pplvm.objectives.objective import Loss
    from pplvm.objectives.pathwise import AnalyticKL, Pathwise
    from pplvm.objectives.per_site import PerSite
    from pplvm.objectives.pyro_objective import PyroObjective
    from pplvm.objectives.score_function import LeaveOneOut, ScoreFunction
    from pplvm.objectives.stopped_guide import (
        DoublyReparameterized,
        DoublyReparameterizedWakeSleep,
        StickTheLanding,
    )
    from pplvm.objectives.tempered import Beta, FreeBits, Warmup
    from pplvm.objectives.thermodynamic import Thermodynamic
    from pplvm.objectives.wake_sleep import ReweightedWakeSleep, WakeSleep
    from pplvm.particles import draw_particles
    from pplvm.programs.mixture import MixtureOfGaussians
    from pplvm.programs.sigmoid_belief import SigmoidBeliefNet
    from pplvm.programs.vae import VAE
    from pplvm.training.fit import fit

_HOMES = {
    "pplvm.data.images": ("digits", "mnist", "fashion_mnist", "binarized_mnist"),
    "pplvm.data.binarization": ("binarize",),
    "pplvm.data.batches": ("batches",),
    "pplvm.programs.mixture": ("MixtureOfGaussians",),
    "pplvm.programs.sigmoid_belief": ("SigmoidBeliefNet",),
    "pplvm.programs.vae": ("VAE",),
    "pplvm.particles": ("draw_particles",),
    "pplvm.bounds": ("elbo", "iwae", "renyi", "tvo", "jackknife"),
    "pplvm.objectives.objective": ("Loss",),
    "pplvm.objectives.exact": ("Exact", "PriorSampling"),
    "pplvm.objectives.pathwise": ("Pathwise", "AnalyticKL"),
    "pplvm.objectives.stopped_guide": ("StickTheLanding", "DoublyReparameterized", "DoublyReparameterizedWakeSleep"),
    "pplvm.objectives.score_function": ("ScoreFunction", "LeaveOneOut"),
    "pplvm.objectives.baselines": ("MovingAverage", "LearnedBaseline"),
    "pplvm.objectives.local_expectation": ("LocalExpectation",),
    "pplvm.objectives.antithetic": ("ARM", "DisARM", "ARMS"),
    "pplvm.objectives.control_variates": ("MuProp", "REBAR", "RELAX", "DoubleControlVariate"),
    "pplvm.objectives.generalized_dreg": ("GeneralizedDoublyReparameterized",),
    "pplvm.objectives.wake_sleep": ("WakeSleep", "ReweightedWakeSleep"),
    "pplvm.objectives.thermodynamic": ("Thermodynamic",),
    "pplvm.objectives.tempered": ("Beta", "FreeBits", "Warmup"),
    "pplvm.objectives.measure_valued": ("MeasureValued",),
    "pplvm.objectives.biased": ("BiasedStraightThrough", "BiasedStraightThroughGumbel", "BiasedConcrete"),
    "pplvm.objectives.per_site": ("PerSite",),
    "pplvm.objectives.pyro_objective": ("PyroObjective",),
    "pplvm.training.fit": ("fit",),
    "pplvm.evaluation.gradients": ("compare_gradients",),
    "pplvm.evaluation.verification": ("verify",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "ARM",
    "ARMS",
    "AnalyticKL",
    "Beta",
    "BiasedConcrete",
    "BiasedStraightThrough",
    "BiasedStraightThroughGumbel",
    "DisARM",
    "DoubleControlVariate",
    "DoublyReparameterized",
    "DoublyReparameterizedWakeSleep",
    "Exact",
    "FreeBits",
    "GeneralizedDoublyReparameterized",
    "LearnedBaseline",
    "LeaveOneOut",
    "LocalExpectation",
    "Loss",
    "MeasureValued",
    "MixtureOfGaussians",
    "MovingAverage",
    "MuProp",
    "Pathwise",
    "PerSite",
    "PriorSampling",
    "PyroObjective",
    "REBAR",
    "RELAX",
    "ReweightedWakeSleep",
    "ScoreFunction",
    "SigmoidBeliefNet",
    "StickTheLanding",
    "Thermodynamic",
    "VAE",
    "WakeSleep",
    "Warmup",
    "batches",
    "binarize",
    "binarized_mnist",
    "compare_gradients",
    "digits",
    "draw_particles",
    "elbo",
    "fashion_mnist",
    "fit",
    "iwae",
    "jackknife",
    "mnist",
    "renyi",
    "tvo",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'pplvm' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
