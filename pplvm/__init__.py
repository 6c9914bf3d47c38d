"""Deep latent variable models as Pyro programs, under any estimator that is legal for them.

Names stand here in the order of the data's path; each is imported when it is first used.
"""

import importlib

TYPE_CHECKING = False  # typing takes longer to import than all else here, and Ctrl-C may come by then

if TYPE_CHECKING:
    from typing import Any

    from pplvm.bounds import elbo, iwae, jackknife, renyi, tvo
    from pplvm.commands.loaded import load
    from pplvm.data.batches import batches
    from pplvm.data.binarization import binarize
    from pplvm.data.epochs import Epochs
    from pplvm.data.images import binarized_mnist, digits, fashion_mnist, mnist
    from pplvm.estimators.compare_gradients import compare_gradients
    from pplvm.estimators.verification.verify import verify
    from pplvm.evaluation.annealing.annealed import annealed
    from pplvm.evaluation.annealing.bidirectional import bidirectional
    from pplvm.evaluation.evaluate import evaluate
    from pplvm.evaluation.evidence import log_evidence
    from pplvm.evaluation.information import aggregate_posterior
    from pplvm.evaluation.information_bounds import barber_agakov, info_nce
    from pplvm.evaluation.likelihood import bits_per_dim, importance_sampled
    from pplvm.evaluation.rates import rate_distortion
    from pplvm.evaluation.samples import interpolations, prior_samples, reconstructions
    from pplvm.evaluation.traversals import traversals
    from pplvm.evaluation.units import active_units
    from pplvm.graphs.compiled import compiled
    from pplvm.networks.leading_dims import LeadingDims
    from pplvm.objectives.antithetic import ARM, ARMS, DisARM
    from pplvm.objectives.baselines import LearnedBaseline, MovingAverage
    from pplvm.objectives.biased import (
        BiasedConcrete,
        BiasedPathwise,
        BiasedStraightThrough,
        BiasedStraightThroughGumbel,
    )
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
    from pplvm.particles.draw import draw_particles
    from pplvm.programs.mixture import MixtureOfGaussians
    from pplvm.programs.ppca import ProbabilisticPCA
    from pplvm.programs.sigmoid_belief import SigmoidBeliefNet
    from pplvm.programs.vae import VAE
    from pplvm.training.aggressive import Aggressive
    from pplvm.training.checkpoints import Checkpoints, read_checkpoint
    from pplvm.training.early_stopping import EarlyStopping
    from pplvm.training.fit import fit
    from pplvm.training.run import Run
    from pplvm.training.stepper import Stepper

_HOMES = {
    "pplvm.data.images": ("digits", "mnist", "fashion_mnist", "binarized_mnist"),
    "pplvm.data.binarization": ("binarize",),
    "pplvm.data.batches": ("batches",),
    "pplvm.data.epochs": ("Epochs",),
    "pplvm.programs.ppca": ("ProbabilisticPCA",),
    "pplvm.programs.mixture": ("MixtureOfGaussians",),
    "pplvm.programs.sigmoid_belief": ("SigmoidBeliefNet",),
    "pplvm.programs.vae": ("VAE",),
    "pplvm.networks.leading_dims": ("LeadingDims",),
    "pplvm.particles.draw": ("draw_particles",),
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
    "pplvm.objectives.biased": (
        "BiasedStraightThrough",
        "BiasedStraightThroughGumbel",
        "BiasedConcrete",
        "BiasedPathwise",
    ),
    "pplvm.objectives.per_site": ("PerSite",),
    "pplvm.objectives.pyro_objective": ("PyroObjective",),
    "pplvm.graphs.compiled": ("compiled",),
    "pplvm.training.aggressive": ("Aggressive",),
    "pplvm.training.early_stopping": ("EarlyStopping",),
    "pplvm.training.checkpoints": (
        "Checkpoints",
        "read_checkpoint",
    ),
    "pplvm.training.run": ("Run",),
    "pplvm.training.stepper": ("Stepper",),
    "pplvm.training.fit": ("fit",),
    "pplvm.commands.loaded": ("load",),
    "pplvm.estimators.compare_gradients": ("compare_gradients",),
    "pplvm.evaluation.evaluate": ("evaluate",),
    "pplvm.evaluation.evidence": ("log_evidence",),
    "pplvm.evaluation.likelihood": (
        "importance_sampled",
        "bits_per_dim",
    ),
    "pplvm.evaluation.rates": ("rate_distortion",),
    "pplvm.evaluation.units": ("active_units",),
    "pplvm.evaluation.annealing.annealed": ("annealed",),
    "pplvm.evaluation.annealing.bidirectional": ("bidirectional",),
    "pplvm.evaluation.information": ("aggregate_posterior",),
    "pplvm.evaluation.information_bounds": (
        "barber_agakov",
        "info_nce",
    ),
    "pplvm.evaluation.samples": (
        "prior_samples",
        "reconstructions",
        "interpolations",
    ),
    "pplvm.evaluation.traversals": ("traversals",),
    "pplvm.estimators.verification.verify": ("verify",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "ARM",
    "ARMS",
    "Aggressive",
    "AnalyticKL",
    "Beta",
    "BiasedConcrete",
    "BiasedPathwise",
    "BiasedStraightThrough",
    "BiasedStraightThroughGumbel",
    "Checkpoints",
    "DisARM",
    "DoubleControlVariate",
    "DoublyReparameterized",
    "DoublyReparameterizedWakeSleep",
    "EarlyStopping",
    "Epochs",
    "Exact",
    "FreeBits",
    "GeneralizedDoublyReparameterized",
    "LeadingDims",
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
    "ProbabilisticPCA",
    "PyroObjective",
    "REBAR",
    "RELAX",
    "ReweightedWakeSleep",
    "Run",
    "ScoreFunction",
    "SigmoidBeliefNet",
    "Stepper",
    "StickTheLanding",
    "Thermodynamic",
    "VAE",
    "WakeSleep",
    "Warmup",
    "active_units",
    "aggregate_posterior",
    "annealed",
    "barber_agakov",
    "batches",
    "bidirectional",
    "binarize",
    "binarized_mnist",
    "bits_per_dim",
    "compare_gradients",
    "compiled",
    "digits",
    "draw_particles",
    "elbo",
    "evaluate",
    "fashion_mnist",
    "fit",
    "importance_sampled",
    "info_nce",
    "interpolations",
    "iwae",
    "jackknife",
    "load",
    "log_evidence",
    "mnist",
    "prior_samples",
    "rate_distortion",
    "read_checkpoint",
    "reconstructions",
    "renyi",
    "traversals",
    "tvo",
    "verify",
]


def __getattr__(name: str) -> "Any":
    if name not in _HOME_OF:
        raise AttributeError(f"module 'pplvm' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
