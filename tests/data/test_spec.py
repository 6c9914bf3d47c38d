"""Which observed site may take which data, and in which words the others are refused."""

import re

import pytest
import torch
from torch import distributions as d
from torch.distributions import constraints

from pplvm.data.spec import DataSpec, check_site, first_outside, refuse_row

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


def is_held(spec, distribution):
    """Whether the support holds the levels, or, of real data, these two batches of them."""
    if spec is REAL:
        values = torch.tensor([-1e6, -0.5, 0.5, 1e6]).expand(2, 3, 4)
        return first_outside(distribution.support, values) is None
    try:
        check_site(spec, "x", "Name", distribution.support)
    except ValueError as refusal:
        assert f"data set '{spec.name}' has" in str(refusal) and "site 'x'" in str(refusal)
        return False
    return True


@pytest.mark.parametrize("name", SUPPORTED)
def test_exactly_the_data_inside_the_support_pass(name):
    distribution, passing = SUPPORTED[name]
    assert [spec for spec in (GREY, BINARY, REAL) if is_held(spec, distribution)] == [
        spec for spec in (GREY, BINARY, REAL) if spec in passing
    ]


WITHIN = {
    "counts": (d.NegativeBinomial(2.0, HALF), torch.tensor([0.0, 3.0, 4000.0])),
    "waiting times": (d.Gamma(HALF, 1.0), torch.tensor([0.1, 1e-6, 1e4])),
    "fractions": (d.Beta(HALF, 2.0), torch.tensor([0.001, 0.5, 0.9])),
    "token ids": (d.Independent(d.Categorical(torch.ones(3, 4, 7)), 1), torch.tensor([0.0, 3.0, 6.0])),
    "compositions": (d.Dirichlet(torch.ones(3, 4)), torch.tensor([0.25])),
}


@pytest.mark.parametrize("name", WITHIN)
def test_the_datas_own_values_are_held_and_the_first_outside_is_found(name):
    distribution, values = WITHIN[name]
    rows = values.repeat(24)[:24].reshape(2, 3, 4) if len(values) > 1 else values.expand(2, 3, 4).clone()
    assert first_outside(distribution.support, rows) is None
    rows[1, 1, 2] = -0.5
    assert first_outside(distribution.support, rows) == 4


def test_grey_for_a_bernoulli_is_told_to_binarize():
    with pytest.raises(ValueError) as refusal:
        check_site(GREY, "x", "Bernoulli", d.Independent(BERNOULLI, 1).support)
    assert str(refusal.value) == (
        "data set 'digits' has 17 grey levels in [0, 1], "
        "but site 'x' is a Bernoulli, whose support is {0, 1}: "
        "binarize the data (--binarize static or dynamic) or use a likelihood for grey values "
        "(e.g. --set likelihood=discretized-logistic, Normal)"
    )


@pytest.mark.parametrize("name", ["Binomial", "Binomial with tensor counts", "Categorical"])
def test_grey_for_integers_is_told_that_it_is_fractions(name):
    words = r"site 'y' is a .* support is the integers 0 to 16: the data are fractions k/16 and not integers"
    with pytest.raises(ValueError, match=words):
        check_site(GREY, "y", name, SUPPORTED[name][0].support)


@pytest.mark.parametrize(
    "distribution, value, words",
    [
        (d.ContinuousBernoulli(HALF), -0.5, r"is \[0, 1\]: use a likelihood on the real line"),
        (d.Bernoulli(HALF), 3.0, r"is \{0, 1\}: use a likelihood of such integers \(e.g. Poisson"),
        (
            d.Categorical(torch.ones(3, 4, 7)),
            7.0,
            "integers 0 to 6: use a likelihood of such .* of more classes",
        ),
        (d.Poisson(HALF), 0.25, "use a likelihood on the real line .* or map the data to the support"),
        (d.Dirichlet(torch.ones(3, 4)), 0.5, r"a vector in row 7 of its split, but site 'x' .* Simplex\(\)"),
    ],
)
def test_real_data_are_told_the_row_the_value_and_a_likelihood_for_it(distribution, value, words):
    values = torch.zeros(3, 4)
    values[1, 2] = value
    told = "a vector" if distribution.event_shape else f"{value:g}"
    with pytest.raises(ValueError, match=f"'waves' has real values, {told} in row 7 of its split, but") as refusal:
        refuse_row(REAL, "x", type(distribution).__name__, distribution.support, 7, values)
    assert re.search(words, str(refusal.value))


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
