"""Presets of objectives under the names of the literature, for the command line."""

from collections.abc import Sequence

from pyro.infer import (
    ELBO,
    RenyiELBO,
    ReweightedWakeSleep,
    Trace_ELBO,
    TraceGraph_ELBO,
    TraceMeanField_ELBO,
)

from pplvm.bounds import elbo, iwae, jackknife
from pplvm.bounds import renyi as renyi_bound
from pplvm.bounds import tvo as tvo_bound
from pplvm.objectives.antithetic import ARMS, DisARM
from pplvm.objectives.baselines import LearnedBaseline, MovingAverage
from pplvm.objectives.control_variates import MuProp
from pplvm.objectives.estimate import ObjectiveError
from pplvm.objectives.exact import Exact, PriorSampling
from pplvm.objectives.path_gradients import DoublyReparameterized
from pplvm.objectives.pathwise import AnalyticKL, Pathwise
from pplvm.objectives.pyro_objective import PyroObjective
from pplvm.objectives.score_function import LeaveOneOut, ScoreFunction
from pplvm.objectives.tempered import Beta, FreeBits
from pplvm.objectives.thermodynamic import Thermodynamic
from pplvm.objectives.total_correlation import TotalCorrelation

__all__ = [
    "arms",
    "beta_analytic_kl",
    "beta_rloo",
    "beta_tcvae",
    "disarm_iwae",
    "dreg",
    "exact",
    "free_bits_rloo",
    "iwae_jackknife",
    "iwae_pathwise",
    "nvil",
    "prior_sampling",
    "pyro_mean_field",
    "pyro_renyi",
    "pyro_rws",
    "pyro_trace",
    "pyro_trace_graph",
    "renyi",
    "rloo",
    "score_average",
    "score_function",
    "score_iwae",
    "simple_muprop",
    "thermodynamic",
    "tvo",
    "vimco",
    "vimco_arithmetic",
]


def score_function(num_particles: int = 4) -> ELBO:
    """REINFORCE: the elbo's score-function gradient, no baseline."""
    return ScoreFunction(elbo, num_particles)


def score_average(num_particles: int = 4, decay: float = 0.9) -> ELBO:
    """REINFORCE with a moving-average baseline."""
    return ScoreFunction(elbo, num_particles, MovingAverage(decay))


def nvil(data_size: int, num_particles: int = 4, hidden_size: int = 100) -> ELBO:
    """REINFORCE with a baseline learned from the data."""
    return ScoreFunction(elbo, num_particles, LearnedBaseline(data_size, hidden_size))


def rloo(num_particles: int = 4) -> ELBO:
    """REINFORCE leave-one-out (RLOO) on the elbo."""
    return LeaveOneOut(elbo, num_particles)


def score_iwae(num_particles: int = 4) -> ELBO:
    """The importance-weighted bound's score-function gradient, no baseline."""
    return ScoreFunction(iwae, num_particles)


def vimco(num_particles: int = 4) -> ELBO:
    """VIMCO: leave-one-out on the importance-weighted bound."""
    return LeaveOneOut(iwae, num_particles)


def vimco_arithmetic(num_particles: int = 4) -> ELBO:
    """VIMCO with the arithmetic mean of the other weights."""
    return LeaveOneOut(iwae, num_particles, mean="arithmetic")


def renyi(num_particles: int = 4, alpha: float = 0.5) -> ELBO:
    """Leave-one-out on the Renyi bound of order alpha."""
    return LeaveOneOut(renyi_bound(alpha), num_particles)


def disarm_iwae(num_particles: int = 4) -> ELBO:
    """Antithetic pairs on the importance-weighted bound."""
    return DisARM(iwae, num_particles)


def arms(num_particles: int = 4) -> ELBO:
    """One group of antithetic draws, as many as there are particles."""
    if num_particles < 2:
        raise ObjectiveError(f"ARMS: num_particles must be at least 2, got {num_particles}")
    return ARMS(num_particles)


def simple_muprop(num_particles: int = 1) -> ELBO:
    """MuProp without its linear term."""
    return MuProp(linear=False, num_particles=num_particles)


def tvo(num_particles: int = 4, partition: Sequence[float] | int = (0.0, 0.1, 0.3, 1.0)) -> ELBO:
    """Leave-one-out on the thermodynamic bound."""
    return LeaveOneOut(tvo_bound(partition), num_particles)


def thermodynamic(num_particles: int = 4, partition: Sequence[float] | int = (0.0, 0.1, 0.3, 1.0)) -> ELBO:
    """The thermodynamic variational objective by its covariance gradient."""
    return Thermodynamic(partition, num_particles)


def iwae_jackknife(num_particles: int = 4, order: int = 1) -> ELBO:
    """Leave-one-out on the jackknifed importance-weighted bound."""
    return LeaveOneOut(jackknife(order), num_particles)


def beta_analytic_kl(num_particles: int = 4, beta: float = 4.0) -> ELBO:
    """The beta-VAE: reparameterized, with its KL in closed form and weighted."""
    return Beta(AnalyticKL(num_particles), beta)


def beta_tcvae(
    num_particles: int = 1,
    beta: float = 6.0,
    alpha: float = 1.0,
    gamma: float = 1.0,
    num_data: int | None = None,
) -> ELBO:
    """The beta-TCVAE: reparameterized, with its KL in closed form and its total correlation weighted."""
    return TotalCorrelation(AnalyticKL(num_particles), beta, alpha, gamma, num_data)


def beta_rloo(num_particles: int = 4, beta: float = 4.0) -> ELBO:
    """Leave-one-out on the elbo with its KL weighted."""
    return Beta(LeaveOneOut(elbo, num_particles), beta)


def free_bits_rloo(num_particles: int = 4, nats: float = 0.5) -> ELBO:
    """Leave-one-out on the elbo with free bits for each latent's KL."""
    return FreeBits(LeaveOneOut(elbo, num_particles), nats)


def exact() -> ELBO:
    """Log p(x) with the discrete latents enumerated."""
    return Exact()


def prior_sampling(num_particles: int = 100) -> ELBO:
    """Log p(x) by draws from the prior."""
    return PriorSampling(num_particles)


def iwae_pathwise(num_particles: int = 4) -> ELBO:
    """The pathwise gradient of the importance-weighted bound."""
    return Pathwise(iwae, num_particles)


def dreg(num_particles: int = 4, alpha: float = 0.0) -> ELBO:
    """Doubly reparameterized gradients of the Renyi bound of order alpha; 0 is the importance-weighted bound."""
    return DoublyReparameterized(renyi_bound(alpha), num_particles)


def pyro_trace(num_particles: int = 4) -> ELBO:
    """Pyro's Trace_ELBO."""
    return Trace_ELBO(num_particles, vectorize_particles=True)


def pyro_mean_field(num_particles: int = 4) -> ELBO:
    """Pyro's TraceMeanField_ELBO."""
    return TraceMeanField_ELBO(num_particles, vectorize_particles=True)


def pyro_trace_graph(num_particles: int = 4) -> ELBO:
    """Pyro's TraceGraph_ELBO, no baseline."""
    return PyroObjective(TraceGraph_ELBO(num_particles, vectorize_particles=True))


def pyro_renyi(num_particles: int = 4, alpha: float = 0.0) -> ELBO:
    """Pyro's RenyiELBO, also where it is known to be biased."""
    return PyroObjective(RenyiELBO(alpha, num_particles, vectorize_particles=True), allow_biased=True)


def pyro_rws(num_particles: int = 4) -> ELBO:
    """Pyro's ReweightedWakeSleep (wake theta, wake phi), even on a batch, whose data it weights jointly."""
    return PyroObjective(ReweightedWakeSleep(num_particles, vectorize_particles=True), allow_biased=True)
