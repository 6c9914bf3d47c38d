"""Two programs that would compute differently have different tables, and the first difference is said."""

import json

import pytest
import torch
from torch import nn

from pplvm.training.architecture import architecture, manifest_differences


def net(width=5, p=0.1, activation=nn.Softplus, dtype=torch.float64, bias=True):
    return nn.Sequential(
        nn.Linear(3, width, bias=bias, dtype=dtype), activation(), nn.Dropout(p), nn.BatchNorm1d(width, dtype=dtype)
    )


class Buffered(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(2))


OTHERS = {
    "a shape": (net(width=6), "0.weight has shape (5, 3) there, (6, 3) here"),
    "a dtype": (net(dtype=torch.float32), "0.weight is of float64 there, float32 here"),
    "a dropout": (net(p=0.2), "2 is torch.nn.modules.dropout.Dropout(p=0.1, inplace=False) there, "),
    "an activation": (net(activation=nn.Tanh), "1 is torch.nn.modules.activation.Softplus(beta=1.0, "),
    "a part": (nn.Sequential(*net(), nn.Identity()), "4 is not there, but here"),
    "no bias": (net(bias=False), "0.bias is there, but not here"),
}


@pytest.mark.parametrize("other, sentence", OTHERS.values(), ids=OTHERS)
def test_the_first_difference_of_two_architectures_is_said(other, sentence):
    there, here = ({"architecture": architecture(each)} for each in (net(), other))
    assert there["architecture"]["sha256"] != here["architecture"]["sha256"]
    said = manifest_differences(json.loads(json.dumps(there)), here)
    assert list(said) == ["architecture"]
    assert sentence in said["architecture"]


def test_equal_architectures_agree_whatever_their_values():
    there, here = architecture(net(), particles=5), architecture(net(), particles=5)
    assert (
        there == here
        and manifest_differences({"architecture": json.loads(json.dumps(there))}, {"architecture": here}) == {}
    )


def test_settings_buffers_and_tied_weights_belong_to_it():
    assert "mean" in architecture(Buffered())["tensors"]
    tied = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    tied[1].weight = tied[0].weight
    assert "1.weight" in architecture(tied)["tensors"]
    there, here = ({"architecture": architecture(net(), particles=k)} for k in (1, 5))
    assert manifest_differences(there, here) == {"architecture": "particles is 1 there, 5 here"}


def test_an_address_is_no_difference():
    parts = [nn.Linear(2, 2), nn.Linear(2, 2)]
    for part, function in zip(parts, (lambda: 0, lambda: 0), strict=True):
        part.extra_repr = lambda function=function: repr(function)
    assert parts[0].extra_repr() != parts[1].extra_repr() and architecture(parts[0]) == architecture(parts[1])


def test_another_class_is_said():
    there, here = ({"architecture": architecture(each)} for each in (nn.Softplus(), nn.Sequential()))
    assert manifest_differences(there, here)["architecture"].startswith(
        "the module is torch.nn.modules.activation.Softplus("
    )


def test_every_field_that_differs_has_a_sentence():
    there = {"seed": 0, "data": {"name": "digits", "sha256": "a"}, "processes": 1, "old": True}
    here = {"seed": 1, "data": {"name": "digits", "sha256": "b"}, "processes": 1, "versions": (1, 2)}
    assert manifest_differences(there, here) == {
        "seed": "seed is 0 there, 1 here",
        "data": "data.sha256 is a there, b here",
        "old": "old is there, but not here",
        "versions": "versions is not there, but here",
    }
    assert manifest_differences({"versions": [1, 2]}, {"versions": (1, 2)}) == {}
