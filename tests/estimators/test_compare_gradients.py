"""The comparison tells truth from error on problems whose answers are known."""

import math
from dataclasses import replace

import arviz as az
import numpy as np
import pytest
import torch
import xarray as xr

from pplvm.bounds import elbo, iwae
from pplvm.estimators.compare_gradients import compare_gradients
from pplvm.estimators.comparison import Comparison
from pplvm.estimators.cost.evaluations import evaluations_per_datum
from pplvm.estimators.results.effective_sample_size import effective_replicates
from pplvm.objectives.baselines import LearnedBaseline, MovingAverage
from pplvm.objectives.exact import Exact, PriorSampling
from pplvm.objectives.local_expectation import LocalExpectation
from pplvm.objectives.objective import Loss
from pplvm.objectives.pathwise import Pathwise
from pplvm.objectives.score_function import LeaveOneOut, ScoreFunction
from tests.problems import (
    BernoulliToy,
    every_draw,
    exact_moments,
    linear_gaussian,
    per_row_gradients,
    small_net,
    two_data,
)


def test_variance_and_its_interval_against_enumeration():
    """One datum, so that the enumerated variance of the estimator is that of the loss."""
    net, x = small_net(), two_data()[:1]
    losses = {"score": Loss(ScoreFunction(elbo, 2), net), "rloo": Loss(LeaveOneOut(elbo, 2), net)}
    result = compare_gradients(losses, [x], replicates=400)
    for name, loss in losses.items():
        truth = float(exact_moments(loss.objective, net, x)[1].sum())
        row = result.sel(estimator=name)
        width = math.log(float(row.variance_high / row.variance_low)) / 2 / 1.96  # one standard error
        assert abs(math.log(float(row.variance) / truth)) < 4 * width
        assert width < 0.3
        assert str(row.verdict.values) != "biased" and str(row.reference.values) == "exact"


@pytest.mark.slow
def test_intervals_cover_the_closed_form():
    """D2: 95 % intervals of REINFORCE's variance on one bit cover the truth in about 95 % of 40 repeats."""
    toy, t, theta = BernoulliToy(0.8, 0.3), 0.3, 1 / (1 + math.exp(-0.8))
    f1, f0, v = (1 - t) ** 2, t**2, theta * (1 - theta)
    truth = v * ((1 - theta) * f1**2 + theta * f0**2) - v**2 * (f1 - f0) ** 2
    covered = 0
    for seed in range(40):
        result = compare_gradients(
            {"score": Loss(ScoreFunction(), toy)},
            [torch.zeros(1, 1)],
            replicates=60,
            seed=seed,
            reference_draws=2,
        )
        covered += bool(result.variance_low[0] <= truth <= result.variance_high[0])
    assert covered >= 33  # 38 expected, standard deviation 1.4


@pytest.fixture(scope="module")
def several():
    torch.set_default_dtype(torch.float64)
    net = small_net((3,), data_size=6)
    generator = torch.Generator().manual_seed(3)
    batches = [(torch.rand(5, 6, generator=generator) < 0.5).double() for _ in range(3)]
    objectives = {
        "score": ScoreFunction(elbo, 2),
        "average": ScoreFunction(elbo, 2, MovingAverage()),
        "nvil": ScoreFunction(elbo, 2, LearnedBaseline(6)),
        "rloo": LeaveOneOut(elbo, 2),
        "vimco": LeaveOneOut(iwae, 2),
        "local": LocalExpectation(),
        "exact": Exact(),
        "prior": PriorSampling(3),
    }
    comparison = Comparison(
        {name: Loss(objective, net) for name, objective in objectives.items()},
        batches,
        replicates=60,
        kept=50,
    )
    for _ in comparison.rounds():
        pass
    return comparison, comparison.result()


def test_dimensions_and_labels(several):
    _, result = several
    assert result.grad.dims == ("chain", "draw", "estimator", "coord")
    assert dict(result.sizes) | {} == result.sizes and result.sizes["chain"] == 3 and result.sizes["draw"] == 50
    assert list(result.side.values) == ["model", "guide"]
    assert "decoders.0.layers.0.weight[0,0]" in result.coord.values
    assert result.loss.dims == ("chain", "draw", "estimator")
    assert (result.replicates == 180).all()
    assert str(result.target.sel(estimator="vimco").values) == "iwae, K=2"


def test_verdicts(several):
    _, result = several
    verdicts = dict(zip(result.estimator.values.tolist(), result.verdict.values.tolist(), strict=True))
    assert verdicts["prior"] == "biased"  # for log p(x), at three draws from the prior
    assert verdicts["exact"] == "unbiased"
    assert "biased" not in {verdicts[n] for n in ("score", "average", "nvil", "rloo", "vimco", "local")}


def test_an_objective_without_noise(several):
    _, result = several
    exact = result.sel(estimator="exact")
    assert float(exact.variance) == 0 and math.isinf(float(exact.snr)) and float(exact.work) == 0
    assert float(exact.cosine_mean) == pytest.approx(1)
    assert float(exact.variance_between) > 0  # minibatches differ


def test_evaluations_are_counted(several):
    comparison, result = several
    expected = {"score": 2, "rloo": 2, "local": 1 + 6, "exact": 8, "prior": 3}
    for name, count in expected.items():
        assert float(result.evaluations.sel(estimator=name)) == count
    assert evaluations_per_datum(Loss(Pathwise(iwae, 7), linear_gaussian()), torch.randn(4, 3)) == 7


def test_common_random_numbers(several):
    """The same draws under the same K: the losses of score and rloo agree replicate by replicate."""
    _, result = several
    assert np.allclose(result.loss.sel(estimator="score"), result.loss.sel(estimator="rloo"), rtol=1e-12)
    assert not np.allclose(result.loss.sel(estimator="score"), result.loss.sel(estimator="local"))


def test_within_and_between_minibatches(several):
    """The between part is that of the exact gradients, within the noise of three minibatches' means."""
    comparison, result = several
    exact = torch.stack([m.centre for m in comparison.measurements["rloo"]]).double()
    truth = float(exact.var(0).sum())
    assert float(result.variance_between.sel(estimator="rloo")) == pytest.approx(truth, rel=0.5)


def test_baselines_stand_still_while_they_are_measured(several):
    comparison, _ = several
    for name in ("average", "nvil"):
        assert not comparison.losses[name].control.training


def test_memory_does_not_grow_with_replicates():
    net, x = small_net(), two_data()
    sizes = []
    for replicates in (30, 120):
        comparison = Comparison({"rloo": Loss(LeaveOneOut(), net)}, [x], replicates=replicates, kept=20)
        for _ in comparison.rounds():
            pass
        (measurement,) = comparison.measurements["rloo"]
        sizes.append((len(measurement.records), len(measurement.entries), len(measurement.milliseconds)))
    assert sizes == [(20, 20, 20), (20, 20, 20)]


def test_arviz_reads_it(several, tmp_path):
    _, result = several
    path = tmp_path / "gradients.nc"
    result.to_netcdf(path, engine="h5netcdf")
    with xr.open_dataset(path, engine="h5netcdf") as again:
        assert again.identical(result) or again.equals(result)
        table = az.summary(again[["loss"]].sel(estimator=["score", "rloo"]))
        assert len(table) == 2
        effective = float(az.ess(again[["grad_norm"]].sel(estimator="score")).grad_norm)
    assert effective > 60  # of 150 draws: replicates are independent


def test_an_interrupted_comparison_keeps_what_is_finished():
    net, x = small_net(), two_data()
    comparison = Comparison({"rloo": Loss(LeaveOneOut(), net)}, [x, x], replicates=30)
    for done in comparison.rounds():
        if 30 < done < 60:
            break
    result = comparison.result()
    assert int(result.replicates[0]) == done and result.sizes["chain"] == 2 and result.sizes["draw"] == done - 30
    with pytest.raises(ValueError, match="nothing was measured yet"):
        Comparison({"rloo": Loss(LeaveOneOut(), net)}, [x]).result()


def test_the_random_state_is_left_as_it_was():
    net, x = small_net(), two_data()
    before = torch.get_rng_state()
    compare_gradients({"rloo": Loss(LeaveOneOut(), net)}, [x], replicates=5)
    assert torch.equal(before, torch.get_rng_state())


def test_bad_input():
    net, x = small_net(), two_data()
    loss = Loss(LeaveOneOut(), net)
    for losses, batches, replicates in (({}, [x], 5), ({"a": loss}, [], 5), ({"a": loss}, [x], 1)):
        with pytest.raises(ValueError, match="needs an estimator, a batch and at least 2"):
            Comparison(losses, batches, replicates=replicates)
    with pytest.raises(ValueError, match="estimators of one program"):
        Comparison({"a": loss, "b": Loss(LeaveOneOut(), small_net())}, [x])


def test_more_processes_than_replicates_are_refused(monkeypatch):
    monkeypatch.setattr("pplvm.estimators.comparable.size", lambda: 3)
    with pytest.raises(ValueError, match="2 replicates are fewer than the 3 processes: start fewer"):
        Comparison({"a": Loss(LeaveOneOut(), small_net())}, [two_data()], replicates=2)


def test_a_gradient_that_is_not_finite_stops_the_comparison():
    class Broken(LeaveOneOut):
        def estimate(self, pair, *args, **kwargs):
            right = super().estimate(pair, *args, **kwargs)
            return replace(right, surrogate=right.surrogate * torch.nan)

    net, x = small_net(), two_data()
    loss = Loss(Broken(), net)
    with pytest.raises(FloatingPointError, match="estimator a gave a gradient that is not finite"):
        compare_gradients({"a": loss}, [x], replicates=3)


def test_a_program_that_subsamples_for_itself_is_refused():
    import pyro

    class Own(BernoulliToy):
        def model(self, x):
            with pyro.plate("batch", len(x), subsample_size=2):
                pyro.sample("b", pyro.distributions.Bernoulli(logits=self.phi.detach()).to_event(1))
                pyro.factor("gain", torch.zeros(2))

    with pytest.raises(ValueError, match="draws a minibatch of its own"):
        Comparison({"a": Loss(ScoreFunction(), Own(0.1, 0.2))}, [torch.zeros(4, 1)])


def test_correlations_against_enumeration():
    """Two rules at equal seeds on one datum: the covariance of their gradients over every pair of draws."""
    net, x = small_net(), two_data()[:1]
    rules = [ScoreFunction(elbo, 2), LeaveOneOut(elbo, 2)]
    draws = [every_draw(rule, net, x) for rule in rules]
    probability = draws[0][0]
    g, h = (per_row_gradients(surrogate, list(net.parameters())) for _, surrogate, _ in draws)  # (T, P)
    g, h = (v - probability @ v for v in (g, h))
    covariance, one, two = (float((probability @ (a * b)).sum()) for a, b in ((g, h), (g, g), (h, h)))
    result = compare_gradients({"score": Loss(rules[0], net), "rloo": Loss(rules[1], net)}, [x, x], replicates=150)
    assert float(result.correlation.sel(estimator="score", other="rloo")) == pytest.approx(
        covariance / math.sqrt(one * two), abs=0.05
    )
    assert float(result.r2.sel(estimator="rloo")) == pytest.approx(1 - two / one, abs=0.05)
    assert float(result.r2.sel(estimator="score")) == 0


def test_correlation_and_r2_of_several(several):
    _, result = several
    correlation = result.correlation
    names = [n for n in result.estimator.values if n != "exact"]
    kept = correlation.sel(estimator=names, other=names)
    assert np.allclose(kept, kept.T) and np.allclose(np.diag(kept), 1) and (abs(kept) <= 1 + 1e-9).all()
    assert correlation.sel(estimator="exact").isnull().all() and correlation.sel(other="exact").isnull().all()
    assert float(correlation.sel(estimator="score", other="average")) > 0.3
    assert abs(float(correlation.sel(estimator="score", other="prior"))) < 0.2  # drawn from another distribution
    assert result.r2.isnull().sel(estimator=["vimco", "local", "exact", "prior"]).all()  # no plain rule of theirs
    assert 0 < float(result.r2.sel(estimator="rloo")) < 1


def test_kurtosis_of_one_bit():
    """D2: the gradient of one bit takes two values, so its kurtosis is (1 - 3 v) / v, v = theta (1 - theta)."""
    v = 1 / (1 + math.exp(-3.0)) * (1 - 1 / (1 + math.exp(-3.0)))
    losses = {"score": Loss(ScoreFunction(), BernoulliToy(3.0, 0.3))}
    result = compare_gradients(losses, [torch.zeros(1, 1)] * 2, replicates=800, reference_draws=2, kept=800)
    assert float(result.kurtosis[0]) == pytest.approx((1 - 3 * v) / v, rel=0.2)


def test_replicates_that_repeat_noise_are_seen(several, monkeypatch):
    _, result = several
    effective = effective_replicates(result)
    assert float(effective.sel(estimator="score")) > 75 and np.isnan(float(effective.sel(estimator="exact")))
    monkeypatch.setattr(
        "pplvm.estimators.replicates.sampling.replicate_seed", lambda seed, minibatch, draw, *own: draw // 20
    )
    net, x = small_net(), two_data()
    again = compare_gradients({"rloo": Loss(LeaveOneOut(), net)}, [x, x], replicates=60)
    assert float(effective_replicates(again)[0]) < 30  # of 120
