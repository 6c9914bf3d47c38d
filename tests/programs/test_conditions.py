"""Conditions reach the parts that take them, by their signatures."""

import pytest
import torch
from torch import nn

from pplvm.networks.leading_dims import LeadingDims
from pplvm.programs.conditions import given, require_taken, shaped

Z, Y, M = torch.zeros(3, 2), torch.ones(3), torch.full((3,), 2.0)


class OfBoth(nn.Module):
    def forward(self, z, y=None, temperature=1.0):
        return z, y, temperature


def test_a_part_is_given_as_many_as_it_takes():
    assert given("VAE", OfBoth(), (Z,), (Y, M))[1] is Y
    assert given("VAE", OfBoth(), (Z,), ())[1] is None
    assert given("VAE", lambda z: z, (Z,), (Y, M)) is Z
    assert given("VAE", lambda *every: len(every), (Z,), (Y, M)) == 3
    assert given("VAE", LeadingDims(lambda z, y: z + y, 1), (Z,), (Y[:, None], M)).shape == (3, 2)


def test_inputs_by_name_are_no_conditions():
    def prior(y=None, order=None):
        return y, order

    assert all(each is part for each, part in zip(given("VQVAE", prior, (), (Y,), order=M), (Y, M), strict=True))
    assert given("VQVAE", lambda order: order, (), (Y,), order=M) is M


def test_what_is_missing_and_what_is_too_much():
    with pytest.raises(ValueError, match="VQVAE: a part, OfBoth, needs 1 of the data's conditions, and there are none"):
        given("VQVAE", type("OfBoth", (nn.Module,), {"forward": lambda self, z, y: z})(), (Z,), ())
    with pytest.raises(ValueError, match="VQVAE: the data have conditions, and no part takes them"):
        require_taken("VQVAE", (Y,), (lambda x: x, 1), (lambda: 0, 0))
    require_taken("VQVAE", (Y,), (lambda x: x, 1), (lambda y: 0, 0))
    with pytest.raises(TypeError, match="of the part itself"):
        given("VAE", _raises, (Z,), ())


def _raises(z):
    raise TypeError("of the part itself")


def test_data_are_given_the_shape_of_the_likelihood():
    assert shaped("VAE", torch.zeros(5, 1, 2, 3), torch.Size([6])).shape == (5, 6)
    with pytest.raises(ValueError, match=r"VAE: the likelihood is one of data of shape \(7,\)"):
        shaped("VAE", torch.zeros(5, 6), torch.Size([7]))
