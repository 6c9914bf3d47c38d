"""Every example runs with few steps, and shows what it says."""

import math

import pytest
import torch

from examples import (
    belief_net_vimco,
    compare_gradients,
    iwae_mnist,
    mixture_of_gaussians,
    rebar_variance,
    semi_supervised,
    toy_score_vs_pathwise,
    vae_mnist,
    wake_sleep_helmholtz,
)


@pytest.fixture(autouse=True)
def single_precision(known_state):
    """The examples as a user runs them."""
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(torch.float64)


def test_the_toys_variances_are_those_of_the_closed_forms_and_it_descends(tmp_path):
    picture = tmp_path / "new folder" / "toy.png"
    variances, expected, paths = toy_score_vs_pathwise.main(60, replicates=300, picture=str(picture))
    assert list(variances) == list(expected) == list(paths)
    for name, (variance, error) in variances.items():
        assert ((variance - expected[name]).abs() < 5 * error).all(), name
        assert (error < 0.5 * expected[name]).all(), name
    for path in paths.values():
        assert path.shape == (61, 2)
    # deterministic descent would stand at 5 (1 - 0.98^60) = 3.51; its noise at 60 steps of variance 4 is 0.1
    assert torch.allclose(paths["pathwise"][-1], torch.full((2,), 3.51), atol=0.5)
    assert picture.stat().st_size > 10_000


def test_leave_one_out_beats_the_bare_score_on_digits_and_neither_is_biased(tmp_path, capsys):
    path = tmp_path / "compare.nc"
    result = compare_gradients.main(steps=5, replicates=30, path=str(path))
    of = result.variance.sel
    assert float(of(estimator="leave-one-out")) < 0.1 * float(of(estimator="score function"))
    assert float(of(estimator="score function")) == pytest.approx(float(of(estimator="Pyro TraceGraph_ELBO")), rel=1e-3)
    assert "biased" not in result.verdict.values
    assert path.stat().st_size > 10_000
    assert "leave-one-out, iwae" in capsys.readouterr().out


def test_prior_sampling_falls_behind_exact_and_guided(tmp_path):
    picture = tmp_path / "mixture.png"
    log_p, table = mixture_of_gaussians.main(60, data=80, sizes=(10, 100), picture=str(picture))
    exact, prior, guided = log_p.values()
    assert exact >= guided - 0.05 > prior
    for (clusters, dims), row in table.items():
        assert row["prior", 10] < row["guide", 10], (clusters, dims)
    for clusters in (10, 100):  # where clusters do not touch, E[w^2] = clusters * p(x)^2
        assert table[clusters, 50]["prior", "ess"] == pytest.approx(1 / clusters, rel=1e-3)
    assert table[100, 50]["prior", 100] < table[10, 50]["prior", 100] - 10
    assert picture.stat().st_size > 10_000


def test_control_variates_keep_their_published_order_early_in_training(tmp_path):
    picture = tmp_path / "rebar.png"
    curves = rebar_variance.main(15, sizes=(20, 20), output=str(picture))
    last = {name: curve[15] for name, curve in curves.items()}
    assert last["NVIL"] > last["SimpleMuProp"] + 1 > last["REBAR"] + 1
    assert last["SimpleMuProp"] == pytest.approx(last["MuProp"], abs=0.6)
    assert picture.stat().st_size > 10_000


def test_the_moving_moments_of_independent_draws_are_theirs():
    torch.manual_seed(0)
    moments = rebar_variance.Moments()
    for _ in range(50):
        moments.observe(3 + 2 * torch.randn(5000))
    # E[second - first^2] = 4 (1 - sum of squared weights), weights nearly equal over 50 draws
    assert moments.log_variance() == pytest.approx(math.log(4 * 49 / 50), abs=0.02)


def test_the_vae_stays_beside_the_loop_by_hand_and_beats_independent_pixels(tmp_path):
    picture = tmp_path / "vae.png"
    curves, figures = vae_mnist.main(120, tested=30, most=100, picture=str(picture))
    apart, chance = ((curves["by hand"] - curves[name]).abs().max() for name in ("pplvm", "other noise"))
    assert apart < 0.01 < chance  # nats; the same noise, and other
    assert figures["log p(x), k = 100"].value > figures["log p(x) of independent pixels"].value + 1
    assert figures["log p(x), k = 1"].value < figures["log p(x), k = 100"].value - 0.3
    assert picture.stat().st_size > 10_000


@pytest.fixture(scope="module")
def short_iwae(tmp_path_factory):
    """Of each gradient of iwae, what a short run of the example returns and its picture's size."""
    torch.set_default_dtype(torch.float32)
    picture = tmp_path_factory.mktemp("iwae") / "iwae.png"
    short = {"beside": 20, "tested": 10, "most": 100, "picture": str(picture)}
    found = {dreg: (*iwae_mnist.main(40, dreg=dreg, **short), picture.stat().st_size) for dreg in (False, True)}
    torch.set_default_dtype(torch.float64)
    return found


@pytest.mark.parametrize("dreg", [False, True])
def test_iwae_and_dreg_stay_beside_the_loop_by_hand(short_iwae, dreg):
    curves, figures, size = short_iwae[dreg]
    ours, theirs, other = curves.values()
    assert len(ours) == 2 * len(theirs)
    assert (ours[: len(theirs)] - theirs).abs().max() < 0.01 < (theirs - other).abs().max()
    assert figures["log p(x), k = 1"].value < figures["log p(x), k = 50"].value
    assert size > 10_000


def test_the_other_gradient_would_not_stay_beside_it(short_iwae):
    """The comparison by hand has power: what the two gradients of iwae do differs by more than it allows."""
    (plain, *_), (doubly, *_) = short_iwae[False], short_iwae[True]
    by_hand = plain["by hand"]
    assert (by_hand - doubly["pplvm"][: len(by_hand)]).abs().max() > 0.02


def test_the_belief_net_reaches_its_exact_evidence_by_importance_sampling(tmp_path):
    picture = tmp_path / "net.png"
    curve, figures = belief_net_vimco.main(150, tested=30, most=1000, picture=str(picture))
    assert curve[-10:].mean() > curve[:10].mean() + 1
    exact, short = figures["log p(x), exact"], figures["short of it, k = 1000"]
    assert exact.value > figures["log p(x) of independent pixels"].value + 1
    assert abs(short.value) < 5 * short.error < 0.05
    assert figures["short of it, k = 1"].value > 0.3
    assert picture.stat().st_size > 10_000


def test_both_phases_of_both_helmholtz_machines_learn(tmp_path):
    picture = tmp_path / "helmholtz.png"
    curves, figures = wake_sleep_helmholtz.main(150, tested=20, most=100, picture=str(picture))
    for name, curve in curves.items():
        assert curve[-10:].mean() > curve[:10].mean() + 1, name
    reweighted, plain = (figures[name]["log p(x), k = 100"].value for name in ("ReweightedWakeSleep", "WakeSleep"))
    assert reweighted > plain
    slept = figures["WakeSleep"]["Barber-Agakov I_p(x; z)"]
    assert slept.value > 5 * slept.error  # negative for a guide that knows nothing of dreams
    assert picture.stat().st_size > 10_000


def test_images_without_labels_help_the_classifier_of_those_that_have_one():
    accuracy = semi_supervised.main(300, tested=5)
    assert accuracy["semi-supervised"] > accuracy["supervised"] > 0.6
