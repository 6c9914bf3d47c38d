# The public names, in the order of the data's path. `__init__.py` imports each from here when it is first used.

from .data.images import (
    digits as digits,
    mnist as mnist,
    fashion_mnist as fashion_mnist,
    binarized_mnist as binarized_mnist,
)
from .data.sprites import sprites as sprites
from .data.binarization import binarize as binarize
from .data.batches import batches as batches
from .data.epochs import Epochs as Epochs
from .networks.leading_dims import LeadingDims as LeadingDims
from .networks.codebook import Codebook as Codebook, MovingAverageCodebook as MovingAverageCodebook
from .networks.classifier import ImageClassifier as ImageClassifier
from .networks.feature_distance import FeatureDistance as FeatureDistance
from .distributions.residual_normal import ResidualNormal as ResidualNormal
from .distributions.nearest_code import NearestCode as NearestCode
from .distributions.code_categorical import CodeCategorical as CodeCategorical
from .distributions.code_prior import CodePrior as CodePrior
from .distributions.absorbing_codes import AbsorbingCodes as AbsorbingCodes
from .programs.ppca import ProbabilisticPCA as ProbabilisticPCA
from .programs.mixture import MixtureOfGaussians as MixtureOfGaussians
from .programs.sigmoid_belief import SigmoidBeliefNet as SigmoidBeliefNet
from .programs.vae import VAE as VAE
from .programs.hierarchical_vae import HierarchicalVAE as HierarchicalVAE
from .programs.hyperspherical_vae import HypersphericalVAE as HypersphericalVAE
from .programs.delta_vae import DeltaVAE as DeltaVAE
from .programs.diffusion_prior import DiffusionPrior as DiffusionPrior, diffusion_prior as diffusion_prior
from .programs.latent_diffusion import LatentDiffusion as LatentDiffusion
from .programs.perceptual import Perceptual as Perceptual
from .programs.vamp_vae import vamp_vae as vamp_vae
from .programs.mixture_priors import MixtureOfGaussiansPrior as MixtureOfGaussiansPrior, VampPrior as VampPrior
from .programs.vq_vae_2 import VQVAE2 as VQVAE2
from .programs.vq_vae import VQVAE as VQVAE, vq_vae as vq_vae
from .programs.code_priors import UniformCodePrior as UniformCodePrior
from .programs.pixelcnn_prior import (
    PixelCNNPrior as PixelCNNPrior,
    ClassConditionalPixelCNNPrior as ClassConditionalPixelCNNPrior,
)
from .programs.transformer_prior import (
    TransformerPrior as TransformerPrior,
    ClassConditionalTransformerPrior as ClassConditionalTransformerPrior,
)
from .programs.absorbing_prior import (
    AbsorbingPrior as AbsorbingPrior,
    ClassConditionalAbsorbingPrior as ClassConditionalAbsorbingPrior,
)
from .programs.sq_vae import SQVAE as SQVAE, sq_vae as sq_vae
from .programs.pixelcnn_likelihood import PixelCNNLikelihood as PixelCNNLikelihood
from .programs.guides import FullCovariance as FullCovariance, SemiAmortized as SemiAmortized
from .particles.draw import draw_particles as draw_particles
from .bounds import elbo as elbo, iwae as iwae, renyi as renyi, tvo as tvo, jackknife as jackknife
from .objectives.objective import Loss as Loss
from .objectives.exact import Exact as Exact, PriorSampling as PriorSampling
from .objectives.pathwise import Pathwise as Pathwise, AnalyticKL as AnalyticKL
from .objectives.path_gradients import (
    StickTheLanding as StickTheLanding,
    DoublyReparameterized as DoublyReparameterized,
    DoublyReparameterizedWakeSleep as DoublyReparameterizedWakeSleep,
)
from .objectives.score_function import ScoreFunction as ScoreFunction, LeaveOneOut as LeaveOneOut
from .objectives.baselines import MovingAverage as MovingAverage, LearnedBaseline as LearnedBaseline
from .objectives.local_expectation import LocalExpectation as LocalExpectation
from .objectives.antithetic import ARM as ARM, DisARM as DisARM, ARMS as ARMS
from .objectives.control_variates import (
    MuProp as MuProp,
    REBAR as REBAR,
    RELAX as RELAX,
    DoubleControlVariate as DoubleControlVariate,
)
from .objectives.generalized_dreg import GeneralizedDoublyReparameterized as GeneralizedDoublyReparameterized
from .objectives.wake_sleep import WakeSleep as WakeSleep, ReweightedWakeSleep as ReweightedWakeSleep
from .objectives.thermodynamic import Thermodynamic as Thermodynamic
from .objectives.penalized import Penalized as Penalized
from .objectives.tempered import Beta as Beta, FreeBits as FreeBits, Warmup as Warmup
from .objectives.kl_balancing import KLBalancing as KLBalancing
from .objectives.total_correlation import TotalCorrelation as TotalCorrelation
from .objectives.measure_valued import MeasureValued as MeasureValued
from .objectives.biased import (
    BiasedStraightThrough as BiasedStraightThrough,
    BiasedStraightThroughGumbel as BiasedStraightThroughGumbel,
    BiasedConcrete as BiasedConcrete,
    BiasedPathwise as BiasedPathwise,
)
from .objectives.biased_gumbel_rao import BiasedGumbelRao as BiasedGumbelRao
from .objectives.biased_reinmax import BiasedReinMax as BiasedReinMax
from .objectives.biased_codes import (
    BiasedCodeStraightThrough as BiasedCodeStraightThrough,
    BiasedCodeRotation as BiasedCodeRotation,
)
from .objectives.per_site import PerSite as PerSite
from .objectives.pyro_objective import PyroObjective as PyroObjective
from .graphs.compiled import compiled as compiled
from .training.aggressive import Aggressive as Aggressive
from .training.early_stopping import EarlyStopping as EarlyStopping
from .training.checkpoints import Checkpoints as Checkpoints, read_checkpoint as read_checkpoint
from .training.run import Run as Run
from .training.stepper import Stepper as Stepper
from .training.fit import fit as fit
from .commands.runs.load_run import load as load
from .evaluation.evaluate import evaluate as evaluate
from .evaluation.evidence import log_evidence as log_evidence
from .evaluation.likelihood import importance_sampled as importance_sampled, bits_per_dim as bits_per_dim
from .evaluation.rate_distortion import rate_distortion as rate_distortion
from .evaluation.active_units import active_units as active_units
from .evaluation.code_usage import code_usage as code_usage
from .evaluation.annealing.annealed import annealed as annealed
from .evaluation.annealing.bidirectional import bidirectional as bidirectional
from .evaluation.information import aggregate_posterior as aggregate_posterior
from .evaluation.information_bounds import barber_agakov as barber_agakov, info_nce as info_nce
from .evaluation.samples import (
    prior_samples as prior_samples,
    reconstructions as reconstructions,
    interpolations as interpolations,
)
from .evaluation.rejection import (
    best_ranked_samples as best_ranked_samples,
    rejection_samples as rejection_samples,
)
from .evaluation.traversals import traversals as traversals
from .estimators.compare_gradients import compare_gradients as compare_gradients
from .estimators.verification.verify import verify as verify
