"""What may stand in a checkpoint, and that its bytes depend on the values alone."""

import io
from collections import OrderedDict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pplvm.training.plain_state import plain_state, plain_tensor


def saved(state):
    file = io.BytesIO()
    torch.save(plain_state(state, "state"), file)
    return file.getvalue()


def loaded(data):
    return torch.load(io.BytesIO(data), weights_only=True)


class Odd(torch.Tensor):
    pass


REFUSED = {
    "a numpy number": (np.float64(1.0), r"state\['a'\]\['b'\]\[1\] is a numpy.float64"),
    "an array": (np.ones(2), "is a numpy.ndarray"),
    "a device": (torch.device("cpu"), "is a torch.device"),
    "a set": ({1}, "is a set"),
    "bytes": (b"x", "is a bytes"),
    "a function": (len, "is a builtin_function_or_method"),
    "a shape": (torch.zeros(2).shape, "is a torch.Size"),
    "a key": ({(1, 2): 3}, r"\[1\] has the key \(1, 2\), a tuple: name it by a str or an int"),
    "a huge number": (2**2001, "is an int of 2002 bits: at most 2000"),
    "a sparse tensor": (torch.eye(2).to_sparse(), "is a tensor without dense values"),
    "a tensor without values": (torch.zeros(2, device="meta"), "is a tensor without dense values"),
    "a subclass": (torch.zeros(2).as_subclass(Odd), "is a .*Odd: a checkpoint holds plain tensors"),
}


@pytest.mark.parametrize("value, sentence", REFUSED.values(), ids=REFUSED)
def test_what_could_not_be_read_back_is_refused_by_its_path(value, sentence):
    with pytest.raises(TypeError, match=sentence):
        plain_state({"a": {"b": [0, value]}}, "state")


TENSORS = {
    "transposed": torch.arange(6.0).reshape(2, 3).T,
    "a slice": torch.arange(1000)[3:5],
    "expanded": torch.ones(()).expand(3, 4),
    "bfloat16": torch.tensor([1.5, -0.0], dtype=torch.bfloat16),
    "a number": torch.tensor(3.25),
    "empty": torch.zeros(0, 3),
    "bool": torch.tensor([True, False]),
    "complex, conjugated": torch.tensor([1 + 2j]).conj(),
    "not finite": torch.tensor([torch.nan, torch.inf, -0.0]),
    "a parameter": nn.Parameter(torch.ones(2)),
    "a buffer": nn.Buffer(torch.ones(2)),
    "channels last": torch.arange(24.0).reshape(1, 2, 3, 4).to(memory_format=torch.channels_last),
}


@pytest.mark.parametrize("value", TENSORS.values(), ids=TENSORS)
def test_a_tensor_comes_back_and_brings_nothing_else(value):
    own = plain_tensor(value, "value")
    assert own.untyped_storage().nbytes() == own.numel() * own.element_size()
    back = loaded(saved({"value": value}))["value"]
    assert (back.dtype, back.shape, back.requires_grad) == (value.dtype, value.shape, False)
    assert torch.equal(back.view(-1).nan_to_num(7.0), value.detach().reshape(-1).nan_to_num(7.0))
    assert own.is_contiguous() and (own.numel() == 0 or own.data_ptr() != value.data_ptr())


LEAVES = st.none() | st.booleans() | st.integers(-(2**128), 2**128) | st.floats(allow_nan=False) | st.text()
STATES = st.dictionaries(
    st.text() | st.integers(),
    st.recursive(
        LEAVES,
        lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text() | st.integers(), inner),
        max_leaves=10,
    ),
)


@settings(max_examples=60, deadline=None, database=None)
@given(STATES)
def test_any_plain_state_comes_back_and_saves_to_the_same_bytes_again(state):
    data = saved(state)
    back = loaded(data)
    assert back == state and repr(back) == repr(state)
    assert saved(back) == data


def test_equal_values_give_equal_bytes_whatever_shares_memory():
    word, pair = "".join(["l", "r"]), (1.0, 2.0)
    tensor = torch.arange(4.0)
    one = {"a": word, "b": word, "c": pair, "d": pair, "e": tensor, "f": tensor, "g": {}}
    other = {
        "a": "".join(["l", "r"]),
        "b": "".join(["l", "r"]),
        "c": (1.0, 2.0),
        "d": tuple([1.0, 2.0]),
        "e": torch.arange(8.0)[:4],
        "f": torch.arange(4.0),
        "g": OrderedDict(),
    }
    assert saved(one) == saved(other)
    files = [io.BytesIO(), io.BytesIO()]
    for state, file in zip((one, other), files, strict=True):
        torch.save(state, file)
    assert files[0].getvalue() != files[1].getvalue(), "torch alone would do: `plain_state` is not needed"


@pytest.mark.gpu
def test_a_tensor_of_the_gpu_is_moved():
    assert plain_tensor(torch.ones(2, device="cuda"), "value").device.type == "cpu"
