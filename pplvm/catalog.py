"""The catalog: names of data sets, programs and objectives for the command line, as lazy import paths."""

import os
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from pplvm.data.import_path import import_module, shadowed

__all__ = ["DATASETS", "OBJECTIVES", "PROGRAMS", "Entry", "find", "load"]


class Entry(NamedTuple):
    """The import path of a named thing, and a one-line summary."""

    path: str  # module:name
    summary: str


DATASETS = {
    "digits": Entry("pplvm.data.images:digits", "scikit-learn's 8x8 digits, 1,797 images, 17 grey levels (default)"),
    "mnist": Entry("pplvm.data.images:mnist", "28x28 digits, 60,000 + 10,000, read from --data-root"),
    "fashion-mnist": Entry("pplvm.data.images:fashion_mnist", "28x28 garments, the same layout"),
    "sprites": Entry(
        "pplvm.data.sprites:sprites", "32x32 sprites with known factors, rendered here (not dSprites); sprites@side=64"
    ),
    "binarized-mnist": Entry("pplvm.data.images:binarized_mnist", "the static split, .npz or .amat in --data-root"),
}

PROGRAMS = {
    "sigmoid-belief-net": Entry(
        "pplvm.programs.sigmoid_belief:SigmoidBeliefNet",
        "layers of Bernoulli latents over binary data (default)",
    ),
    "ppca": Entry("pplvm.programs.ppca:ProbabilisticPCA", "linear and Gaussian, log p(x) known, real data"),
    "vae": Entry("pplvm.programs.vae:VAE", "Gaussian latent; Bernoulli, Gaussian or discretized logistic likelihood"),
    "conv-vae": Entry("pplvm.programs.conv_vae:conv_vae", "VAE of residual convolutions, for images"),
    "hierarchical-vae": Entry(
        "pplvm.programs.hierarchical_vae:hierarchical_vae", "groups of Gaussian latents, top-down, residual posteriors"
    ),
    "conv-hierarchical-vae": Entry(
        "pplvm.programs.conv_hierarchical_vae:conv_hierarchical_vae",
        "the same for images: maps at several scales",
    ),
    "iaf-vae": Entry("pplvm.programs.iaf_vae:iaf_vae", "VAE whose posterior is an inverse autoregressive flow"),
    "vamp-vae": Entry("pplvm.programs.vamp_vae:vamp_vae", "VAE whose prior is the mean of posteriors of pseudo-inputs"),
    "flow-prior-vae": Entry("pplvm.programs.flow_prior_vae:flow_prior_vae", "VAE whose prior is a RealNVP flow"),
    "diffusion-prior": Entry(
        "pplvm.programs.diffusion_prior:diffusion_prior", "VAE whose prior is a diffusion of its latents, T of them"
    ),
    "vlae": Entry("pplvm.programs.vlae:vlae", "VAE whose prior is an autoregressive flow, dense decoder"),
    "vq-vae": Entry("pplvm.programs.vq_vae:vq_vae", "grid of discrete codes, the nearest to what the encoder gives"),
    "sq-vae": Entry("pplvm.programs.sq_vae:sq_vae", "grid of discrete codes, drawn by the distance of a noisy vector"),
    "vq-vae-2": Entry(
        "pplvm.programs.vq_vae_2:vq_vae_2", "codes of images on two grids, the finer given the coarse, by class or not"
    ),
    "dequantized-flow": Entry(
        "pplvm.programs.dequantized_flow:dequantized_flow",
        "flow of grey values, dequantized by uniform or learned noise",
    ),
    "delta-vae": Entry("pplvm.programs.delta_vae:DeltaVAE", "VAE under an AR(1) prior, its rate above a known floor"),
    "hyperspherical-vae": Entry(
        "pplvm.programs.hyperspherical_vae:HypersphericalVAE",
        "VAE with latents on the unit sphere, of known rate",
    ),
    "mixture-of-gaussians": Entry("pplvm.programs.mixture:MixtureOfGaussians", "one Categorical latent, real data"),
}

OBJECTIVES = {
    "score-function": Entry("pplvm.objectives.presets:score_function", "elbo: REINFORCE, no baseline"),
    "score-average": Entry("pplvm.objectives.presets:score_average", "elbo: REINFORCE, moving-average baseline"),
    "nvil": Entry("pplvm.objectives.presets:nvil", "elbo: REINFORCE, baseline learned from the data"),
    "rloo": Entry("pplvm.objectives.presets:rloo", "elbo: leave-one-out"),
    "local-expectation": Entry(
        "pplvm.objectives.local_expectation:LocalExpectation", "elbo: each coordinate summed out"
    ),
    "arm": Entry("pplvm.objectives.antithetic:ARM", "elbo: antithetic pairs (Bernoulli)"),
    "disarm": Entry("pplvm.objectives.antithetic:DisARM", "elbo: antithetic pairs, noise averaged out (U2G)"),
    "disarm-iwae": Entry("pplvm.objectives.presets:disarm_iwae", "iwae: antithetic pairs"),
    "arms": Entry("pplvm.objectives.presets:arms", "elbo: K antithetic draws (Bernoulli)"),
    "double-cv": Entry("pplvm.objectives.control_variates:DoubleControlVariate", "elbo: leave-one-out with slopes"),
    "muprop": Entry("pplvm.objectives.control_variates:MuProp", "elbo: Taylor expansion at the mean"),
    "simple-muprop": Entry("pplvm.objectives.presets:simple_muprop", "elbo: f at the mean as baseline"),
    "rebar": Entry("pplvm.objectives.control_variates:REBAR", "elbo: relaxed program as control variate"),
    "relax": Entry("pplvm.objectives.control_variates:RELAX", "elbo: REBAR with a learned function"),
    "measure-valued": Entry("pplvm.objectives.measure_valued:MeasureValued", "elbo: measure-valued derivatives"),
    "per-site": Entry("pplvm.objectives.per_site:PerSite", "elbo: each site by the rule named in the guide"),
    "biased-st": Entry("pplvm.objectives.biased:BiasedStraightThrough", "elbo, biased: straight-through"),
    "biased-st-gumbel": Entry(
        "pplvm.objectives.biased:BiasedStraightThroughGumbel", "elbo, biased: straight-through Gumbel"
    ),
    "biased-concrete": Entry("pplvm.objectives.biased:BiasedConcrete", "elbo, biased: Concrete, Gumbel-softmax"),
    "biased-gumbel-rao": Entry(
        "pplvm.objectives.biased_gumbel_rao:BiasedGumbelRao",
        "elbo, biased: straight-through Gumbel, noise averaged out",
    ),
    "biased-reinmax": Entry("pplvm.objectives.biased_reinmax:BiasedReinMax", "elbo, biased: second order in f"),
    "biased-code-st": Entry(
        "pplvm.objectives.biased_codes:BiasedCodeStraightThrough", "elbo, biased: VQ-VAE's straight-through (codes)"
    ),
    "biased-code-rotation": Entry(
        "pplvm.objectives.biased_codes:BiasedCodeRotation", "elbo, biased: VQ-VAE's with the rotation trick (codes)"
    ),
    "biased-pathwise": Entry(
        "pplvm.objectives.biased:BiasedPathwise", "elbo, biased: any slope that draws carry (vector quantization)"
    ),
    "score-iwae": Entry("pplvm.objectives.presets:score_iwae", "iwae: REINFORCE, no baseline"),
    "vimco": Entry("pplvm.objectives.presets:vimco", "iwae: leave-one-out, geometric"),
    "vimco-arithmetic": Entry("pplvm.objectives.presets:vimco_arithmetic", "iwae: leave-one-out, arithmetic"),
    "renyi": Entry("pplvm.objectives.presets:renyi", "renyi(alpha): leave-one-out"),
    "pathwise": Entry("pplvm.objectives.pathwise:Pathwise", "elbo: reparameterized"),
    "analytic-kl": Entry("pplvm.objectives.pathwise:AnalyticKL", "elbo: reparameterized, KL in closed form"),
    "stick-the-landing": Entry("pplvm.objectives.path_gradients:StickTheLanding", "elbo: path without the score"),
    "iwae": Entry("pplvm.objectives.presets:iwae_pathwise", "iwae: reparameterized"),
    "dreg": Entry("pplvm.objectives.presets:dreg", "iwae: doubly reparameterized"),
    "tvo": Entry("pplvm.objectives.presets:tvo", "tvo: leave-one-out on the thermodynamic bound"),
    "jackknife": Entry("pplvm.objectives.presets:iwae_jackknife", "jackknife(order): leave-one-out"),
    "gdreg": Entry(
        "pplvm.objectives.generalized_dreg:GeneralizedDoublyReparameterized",
        "iwae: doubly reparameterized, the model's latents too",
    ),
    "rws-dreg": Entry(
        "pplvm.objectives.path_gradients:DoublyReparameterizedWakeSleep", "wake-sleep: along paths; consistent"
    ),
    "rws": Entry("pplvm.objectives.wake_sleep:ReweightedWakeSleep", "wake-sleep: weights per datum; consistent"),
    "wake-sleep": Entry("pplvm.objectives.wake_sleep:WakeSleep", "Helmholtz machine: wake theta, sleep phi"),
    "thermodynamic": Entry("pplvm.objectives.presets:thermodynamic", "tvo: covariance gradient; consistent"),
    "exact": Entry("pplvm.objectives.presets:exact", "log p(x): discrete latents summed out"),
    "prior-sampling": Entry("pplvm.objectives.presets:prior_sampling", "log p(x): draws from the prior"),
    "beta-rloo": Entry("pplvm.objectives.presets:beta_rloo", "elbo, KL times beta: leave-one-out"),
    "beta-analytic-kl": Entry(
        "pplvm.objectives.presets:beta_analytic_kl", "elbo, KL times beta: reparameterized, KL in closed form"
    ),
    "beta-tcvae": Entry(
        "pplvm.objectives.presets:beta_tcvae", "elbo, total correlation times beta: reparameterized, KL in closed form"
    ),
    "free-bits-rloo": Entry("pplvm.objectives.presets:free_bits_rloo", "elbo, free bits: leave-one-out"),
    "pyro-trace": Entry("pplvm.objectives.presets:pyro_trace", "Pyro's Trace_ELBO"),
    "pyro-mean-field": Entry("pplvm.objectives.presets:pyro_mean_field", "Pyro's TraceMeanField_ELBO"),
    "pyro-tracegraph": Entry("pplvm.objectives.presets:pyro_trace_graph", "Pyro's TraceGraph_ELBO"),
    "pyro-renyi": Entry("pplvm.objectives.presets:pyro_renyi", "Pyro's RenyiELBO, alpha 0; biased if discrete"),
    "pyro-rws": Entry("pplvm.objectives.presets:pyro_rws", "Pyro's ReweightedWakeSleep; weights a batch jointly"),
}


def find(kind: str, names: dict[str, Entry], wanted: str) -> Any:
    """Resolve a name of the catalog, or an import path `module:name`, to an object.

    Raises:
        LookupError: there is no such name (the closest is offered), module or attribute.
    """
    if ":" in wanted:
        return load(wanted)
    if wanted not in names:
        near = _closest(wanted, [*names, *(found.name for found in Path.cwd().glob("*.py"))])
        raise LookupError(
            f"unknown {kind} {wanted!r}{near}; `pplvm list` shows all, my_module.py or my_module:MyName names your own"
        )
    return load(names[wanted].path)


def load(path: str) -> Any:
    """Import `module:name`; the current directory is searched last.

    Raises:
        LookupError: the module or the name does not exist.
    """
    module_name, _, name = path.partition(":")
    if not module_name or module_name.startswith(".") or not name:
        raise LookupError(f"{path!r} is no import path: write my_module:MyName")
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and module_name.split(".")[0] == error.name.split(".")[0]:
            near = _closest(module_name, [found.stem for found in Path.cwd().glob("*.py")])
            raise LookupError(f"no module {module_name!r} here ({os.getcwd()}) or installed{near}") from error
        raise
    if not hasattr(module, name):
        raise LookupError(f"{module_name} has no {name!r}{shadowed(module) or _closest(name, dir(module))}")
    return getattr(module, name)


def _closest(wanted: str, names: list[str]) -> str:
    found = get_close_matches(wanted, names, n=1, cutoff=0.4)
    return f", did you mean {found[0]!r}?" if found else ""
