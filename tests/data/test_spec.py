"""Which observed site may take which data, and in which words the others are refused."""

import pytest
import torch
from torch import distributions as d
from torch.distributions import constraints

from pplvm.data.spec import DataSpec, check_site

HALF = torch.full((3, 4), 0.5)
GREY = DataSpec("digits", 10, (8, 8), levels=17)
BINARY = DataSpec("inked", 10, (4,), levels=2, binarization="given")
REAL = DataSpec("waves", 10, (4,))

BERNOULLI = d.Bernoulli(HALF)
SUPPORTED = {
    "Bernoulli": (BERNOULLI, [BINARY]),
    "Bernoulli to_event": (d.Independent(BERNOULLI, 1), [BINARY]),
    "Bernoulli to_event twice": (d.Independent(d.Independent(BERNOULLI, 1), 1), [BINARY]),
    "Normal": (d.Normal(HALF, 1.0), [GREY, BINARY, REAL]),
    "Normal to_event": (d.Independent(d.Normal(HALF, 1.0), 1), [GREY, BINARY, REAL]),
    "MultivariateNormal": (d.MultivariateNormal(torch.zeros(4), torch.eye(4)), [GREY, BINARY, REAL]),
    "ContinuousBernoulli": (d.ContinuousBernoulli(HALF), [GREY, BINARY]),
    "Uniform with tensor bounds": (d.Uniform(torch.zeros(3, 4), torch.ones(3, 4)), [GREY, BINARY]),
    "Uniform on half": (d.Uniform(torch.zeros(3, 4), HALF), []),
    "Binomial": (d.Binomial(16, HALF), [BINARY]),
    "Binomial with tensor counts": (d.Binomial(torch.full((3, 4), 16), HALF), [BINARY]),
    "Categorical": (d.Categorical(torch.ones(17)), [BINARY]),
    "Poisson": (d.Poisson(HALF), [BINARY]),
    "Exponential": (d.Exponential(HALF), [GREY, BINARY]),
    "LogNormal": (d.LogNormal(HALF, 1.0), []),
    "OneHotCategorical": (d.OneHotCategorical(torch.ones(4)), []),
    "Dirichlet": (d.Dirichlet(torch.ones(4)), []),
    "mixture of Normals": (
        d.MixtureSameFamily(d.Categorical(HALF), d.Normal(HALF, 1.0)),
        [GREY, BINARY, REAL],
    ),
    "mixture of Bernoullis": (d.MixtureSameFamily(d.Categorical(HALF), BERNOULLI), [BINARY]),
}


@pytest.mark.parametrize("name", SUPPORTED)
def test_exactly_the_data_inside_the_support_pass(name):
    distribution, passing = SUPPORTED[name]
    for spec in (GREY, BINARY, REAL):
        if spec in passing:
            check_site(spec, "x", name, distribution.support)
        else:
            with pytest.raises(ValueError, match=f"data set '{spec.name}' .* site 'x'"):
                check_site(spec, "x", name, distribution.support)


def test_grey_for_a_bernoulli_is_told_to_binarize():
    with pytest.raises(ValueError) as refusal:
        check_site(GREY, "x", "Bernoulli", d.Independent(BERNOULLI, 1).support)
    assert str(refusal.value) == (
        "data set 'digits' has 17 grey levels in [0, 1], "
        "but site 'x' is a Bernoulli, whose support is {0, 1}: "
        "binarize the data (--binarize static or dynamic) or use a likelihood for grey values "
        "(e.g. ContinuousBernoulli, Normal)"
    )


@pytest.mark.parametrize("name", ["Binomial", "Binomial with tensor counts", "Categorical"])
def test_grey_for_integers_is_told_that_it_is_fractions(name):
    words = r"site 'y' is a .* support is the integers 0 to 16: the data are fractions k/16 and not integers"
    with pytest.raises(ValueError, match=words):
        check_site(GREY, "y", name, SUPPORTED[name][0].support)


def test_real_data_are_told_of_the_real_line():
    words = r"'waves' has real values, .* whose support is \[0, 1\]: use a likelihood on the real line"
    with pytest.raises(ValueError, match=words):
        check_site(REAL, "x", "ContinuousBernoulli", d.ContinuousBernoulli(HALF).support)


def test_binary_data_are_told_of_their_two_values():
    words = "'inked' has the values 0 and 1, but site 'x' is a LogNormal, .*: use a likelihood for 0 and 1"
    with pytest.raises(ValueError, match=words):
        check_site(BINARY, "x", "LogNormal", d.LogNormal(HALF, 1.0).support)


def test_the_support_follows_from_the_levels():
    assert [spec.support for spec in (BINARY, GREY, REAL)] == [
        constraints.boolean,
        constraints.unit_interval,
        constraints.real,
    ]
