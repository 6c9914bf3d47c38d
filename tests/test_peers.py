"""The other libraries estimate what we do: same method, same variance; skipped where they are not installed."""

import pyro
import pytest
import torch
from torch.distributions import Distribution

from benchmarks.peers.measures import draws, threshold, trace_of_covariance, worst_z
from benchmarks.peers.problems import PROBLEMS, exact_gradient, toy_variances

LIBRARIES = ("pplvm", "pyro", "storchastic", "numpyro")
TOY, SMALL = PROBLEMS["toy"], PROBLEMS["SBN 6-4"]
SAME = ("score function", "leave-one-out", "ARM", "DisARM", "expectation")
MOST = 4.5
"""Standard errors; 4.5 of them are passed once in 150,000 times."""


@pytest.fixture(autouse=True)
def single_precision(known_state):
    """The libraries as their users run them; Pyro's SVI keeps parameters in its store."""
    torch.set_default_dtype(torch.float32)
    with pyro.get_param_store().scope():
        yield
    torch.set_default_dtype(torch.float64)


def contestants(library, problem):
    """By method, of a library that may be missing."""
    return pytest.importorskip(f"benchmarks.peers.with_{library}").contestants(problem)


def toy_gradients(contestant):
    """Ten thousand draws of the one gradient, (10000, 1), a hundred in a batch."""
    return (draws(contestant, 100) * len(TOY.x)).reshape(-1, 1)


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_toys_variances_are_those_of_the_closed_forms(library):
    exact = toy_variances(TOY.particles)
    built = contestants(library, TOY)
    for method in [name for name in SAME if name in built]:
        variance, error = trace_of_covariance(toy_gradients(built[method]()))
        assert abs(variance - exact[method]) <= MOST * error + 1e-12, (method, variance, exact[method])
        assert error < 0.03 * exact[method] or method == "expectation", method


@pytest.mark.parametrize("library", LIBRARIES)
def test_on_a_net_the_guides_gradient_is_the_exact_one_on_average(library):
    built, guide = contestants(library, SMALL), SMALL.guide_size
    exact = exact_gradient(SMALL.build(), SMALL.x)[-guide:]
    limit = threshold(len(exact), 100)
    for method in [name for name in SAME if name in built and name != "expectation"]:
        gradients = draws(built[method](), 100)[:, -guide:]
        assert worst_z(gradients, exact) < limit, method
        assert worst_z(gradients, 1.5 * exact) > limit, method  # the test has power


@pytest.mark.parametrize("library", LIBRARIES[1:])
def test_on_a_net_the_same_method_has_the_same_variance_as_ours(library):
    theirs, ours = contestants(library, SMALL), contestants("pplvm", SMALL)
    for method in [name for name in SAME if name in theirs and name in ours]:
        variances = [trace_of_covariance(draws(c[method](), 100)[:, -SMALL.guide_size :]) for c in (theirs, ours)]
        (their_variance, their_error), (our_variance, our_error) = variances
        assert abs(their_variance - our_variance) < MOST * (their_error**2 + our_error**2) ** 0.5, method


def test_storchastic_leaves_torch_as_it_was():
    module = pytest.importorskip("benchmarks.peers.with_storchastic")
    before = torch.is_tensor, torch.Tensor.to, torch.Tensor.le, torch.Tensor.gt, Distribution._validate_args
    module.contestants(TOY)["score function"]().step()
    assert before == (torch.is_tensor, torch.Tensor.to, torch.Tensor.le, torch.Tensor.gt, Distribution._validate_args)
    assert type(torch.Tensor.gt).__name__ == "method_descriptor"  # not storchastic's function
