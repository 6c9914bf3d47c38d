"""A made-up gradient comparison of as many estimators as a test asks for."""

import numpy as np
import pytest
import xarray as xr

NAMES = (
    "pathwise", "score-function", "sticking-the-landing", "rloo", "vimco", "pyro-trace", "pyro-renyi",
    "doubly-reparameterized", "nvil", "straight-through", "gumbel-softmax", "pyro-tracegraph",
    "reweighted-wake-sleep", "disarm", "rebar", "relax", "muprop", "arm", "arms", "double-control-variate",
    "measure-valued", "tempered-vimco", "antithetic-rloo", "wake-sleep", "jackknife-vimco", "tvo",
    "local-expectation-by-site", "straight-through-bernoulli",
)  # fmt: skip
BIASED = {"pyro-renyi", "straight-through", "gumbel-softmax"}
WITHOUT_PARTICLES = {"straight-through", "nvil"}
IMPORTANCE_WEIGHTED = {"vimco", "pyro-renyi", "doubly-reparameterized", "reweighted-wake-sleep"}
RULES = {
    "pathwise": "pathwise", "sticking-the-landing": "pathwise", "doubly-reparameterized": "pathwise",
    "disarm": "antithetic draws", "arm": "antithetic draws", "arms": "antithetic draws",
    "rebar": "control variate", "relax": "control variate", "muprop": "control variate",
    "straight-through": "biased relaxation", "gumbel-softmax": "biased relaxation", "wake-sleep": "wake-sleep",
    "reweighted-wake-sleep": "wake-sleep", "measure-valued": "measure-valued",
}  # fmt: skip
GROUPS = ("encoder.0.weight", "encoder.0.bias", "encoder.loc.weight", "decoder.0.weight", "decoder.0.bias")
SIDES = ("model", "guide")
SWEPT = (1, 4, 16, 64)


def comparison(count: int, seed: int = 0) -> xr.Dataset:
    """The data set that `compare_gradients` would return for the first `count` estimators."""
    random = np.random.default_rng(seed)
    names = list(NAMES[:count])
    variables = {
        **_figures(names, random),
        **_sweep(names, random),
        "group_variance": (("estimator", "group"), 10 ** random.uniform(-6, 1, (count, len(GROUPS)))),
        "group_z": (("estimator", "group"), random.normal(size=(count, len(GROUPS)))),
        "alignment": (("estimator", "side"), 1 + 0.05 * random.normal(size=(count, 2))),
        "alignment_se": (("estimator", "side"), np.full((count, 2), 0.05)),
        "loss": (("chain", "draw", "estimator"), random.normal(size=(2, 3, count))),
        "correlation": (("estimator", "other"), _correlation(count, random)),
        **_weights(random),
    }
    coords = {"estimator": names, "other": names, "group": list(GROUPS), "side": list(SIDES), "k": list(SWEPT)}
    ds = xr.Dataset(variables, coords)
    for name in BIASED & set(names):
        ds["group_z"].loc[{"estimator": name, "group": GROUPS[0]}] = 41.5
        ds["alignment"].loc[{"estimator": name, "side": "guide"}] = 0.31
    return ds.assign_attrs(_attributes())


def _figures(names, random):
    count = len(names)
    variance, ms = 10 ** random.uniform(-2, 2, count), random.uniform(0.5, 30, count)
    wide = random.uniform(1.05, 1.3, count)
    snr = np.where(np.arange(count) % 5 == 3, np.nan, random.uniform(0.05, 4, count))
    figures = {
        "target": ["iwae-16" if n in IMPORTANCE_WEIGHTED else "elbo" for n in names],
        "particles": [1 if n in WITHOUT_PARTICLES else 16 for n in names],
        "evaluations": [1.0 if n in WITHOUT_PARTICLES else 16.0 for n in names],
        "ms": ms,
        "replicates": np.full(count, 4096),
        "variance": variance,
        "variance_low": variance / wide,
        "variance_high": variance * wide,
        "variance_between": variance * 0.1,
        "snr": snr,
        "snr_floor": np.full(count, 0.04),
        "cosine_mean": random.uniform(0.1, 0.99, count),
        "cosine_q05": random.uniform(-0.2, 0.1, count),
        "cosine_q95": np.full(count, 0.995),
        "t2": random.uniform(100, 900, count),
        "p_value": random.uniform(0.05, 1, count),
        "detectable_bias": random.uniform(0.002, 0.03, count),
        "relative_bias": np.where([n in BIASED for n in names], 0.42, 0.0),
        "verdict": ["biased" if n in BIASED else "undecided" if n == "disarm" else "unbiased" for n in names],
        "work": variance * ms,
        "work_low": variance * ms / wide,
        "work_high": variance * ms * wide,
        "work_evaluations": variance * 16,
        "r2": np.where(np.arange(count) % 2, random.uniform(-0.1, 1, count), np.nan),
        "kurtosis": random.uniform(2, 12, count),
        "effective_replicates": np.full(count, 5.8),
        "reference": ["exact" if i % 2 else "pathwise (s.e. 0.1 %)" for i in range(count)],
        "rule": [RULES.get(n, "Pyro's own" if n.startswith("pyro") else "score function") for n in names],
        "note": ["the gradient of a tempered bound" if n in BIASED else "" for n in names],
    }
    return {name: ("estimator", _column(values)) for name, values in figures.items()}


def _correlation(count, random):
    factors = random.normal(size=(count, 8)) + 1
    factors /= np.linalg.norm(factors, axis=1, keepdims=True)
    return factors @ factors.T


def _weights(random):
    khat = xr.DataArray(random.normal(0.3, 0.3, 60), dims="datum", attrs={"draws": 1000, "limit": 2 / 3})
    ess = 10 ** random.uniform(-2, 0, 60)
    return {"weight_khat": khat, "weight_ess": ("datum", ess), "weight_max": ("datum", 1 / (1000 * ess))}


def _column(values):
    """Strings as objects: a test may then write one that is longer."""
    return np.array(values, dtype=object) if isinstance(values[0], str) else np.array(values)


def _sweep(names, random):
    k = np.array(SWEPT)[None, :, None]
    slope = np.array([0.5, -0.5])[None, None, :]
    snr = random.uniform(0.1, 3, (len(names), 1, 1)) * k**slope * random.uniform(0.9, 1.1, (len(names), len(SWEPT), 2))
    floor = np.broadcast_to(random.uniform(0.08, 0.1, (len(names), 1, 1)), snr.shape).copy()
    for i, name in enumerate(names):
        if name in WITHOUT_PARTICLES:
            snr[i, 1:], floor[i, 1:] = np.nan, np.nan
    return {
        "sweep_snr": (("estimator", "k", "side"), snr),
        "sweep_floor": (("estimator", "k", "side"), floor),
    }


def _attributes():
    return {
        "program": "pplvm.programs.vae:VAE", "data": "digits", "batch_size": 64, "steps": 2000, "seed": 7,
        "pplvm_version": "0.1.0", "torch_version": "2.15.0", "pyro_version": "1.9.2", "parameters": 123456,
        "power": 0.9, "alpha": 0.001, "command": "pplvm compare vae digits --seed 7", "elapsed_seconds": 94.3,
        "machine": "2-core CPU",
    }  # fmt: skip


@pytest.fixture
def compared():
    """The maker of a comparison: `compared(9)` has nine estimators."""
    return comparison
