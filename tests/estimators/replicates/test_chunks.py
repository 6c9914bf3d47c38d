"""Gradients as factors against the same gradients with every entry there."""

import pytest
import torch

from pplvm.estimators.replicates.chunks import Dense, Factors

SHAPES = [(6, 4, 5, 3), (1, 1, 7, 2), (5, 9, 1, 4), (3, 2, 4, 1)]  # C, R, O, I


def random_factors(C, R, O, I, dtype):
    return Factors(torch.randn(C, R, O, dtype=dtype), 1 + torch.randn(C, R, I, dtype=dtype))


def answers(chunk, others, fixed, rows, columns, places):
    return {
        "total": chunk.total(),
        "squares": chunk.squares(),
        "against": chunk.against(fixed),
        "signed": chunk.signed(rows, columns),
        "entries": chunk.entries(places),
        "repeated": chunk.repeated(3).dense().values,
        **{f"inner {i}": chunk.inner(other) for i, other in enumerate(others)},
    }


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("shape", SHAPES)
def test_factors_answer_as_their_products_do(shape, dtype, tolerance):
    C, R, O, I = shape
    chunk, other, one = (random_factors(n, r, O, I, dtype) for n, r in ((C, R), (C, R + 1), (1, R)))
    fixed = torch.randn(2, O, I, dtype=dtype)
    rows, columns = torch.randn(3, 2, O, dtype=dtype).sign(), torch.randn(3, 2, I, dtype=dtype).sign()
    others = [chunk, other, other.dense(), one, one.dense()]
    places = torch.arange(O * I).flip(0)
    found = answers(chunk, others, fixed, rows, columns, places)
    right = answers(chunk.dense(), others, fixed, rows, columns, places)
    for name, answer in found.items():
        assert answer.shape == right[name].shape and answer.dtype is dtype, name
        assert (answer - right[name]).abs().max() <= tolerance * (1 + right[name].abs().max()), name


def test_factors_are_multiplied_out_where_they_are_told_to():
    chunk, room = random_factors(4, 2, 5, 3, torch.float64), torch.empty(6, 5, 3)
    assert chunk.dense(room).values.data_ptr() == room.data_ptr()
    assert torch.equal(room[:4], chunk.dense().values)


def test_inputs_that_all_replicates_share_are_multiplied_once():
    left, right = torch.randn(6, 4, 5), torch.randn(1, 4, 3).expand(6, 4, 3)
    chunk, other = Factors(left, right), random_factors(6, 2, 5, 3, torch.float64)
    fixed, rows, columns = torch.randn(2, 5, 3), torch.randn(3, 2, 5).sign(), torch.randn(3, 2, 3).sign()
    others = [chunk, other, other.dense(), Factors(left[:1], right[:1])]
    found = answers(chunk, others, fixed, rows, columns, torch.arange(15))
    expected = answers(Factors(left, right.clone()), others, fixed, rows, columns, torch.arange(15))
    assert len(chunk.inputs) == 1 and len(other.inputs) == 6
    for name, answer in found.items():
        assert torch.allclose(answer, expected[name], rtol=1e-12, atol=1e-12), name


def test_dense_answers_are_those_of_plain_sums():
    values = torch.randn(4, 3, 2, 5)  # of a convolution
    chunk, rows, columns = Dense(values), torch.randn(2, 4, 3).sign(), torch.randn(2, 4, 10).sign()
    assert torch.allclose(chunk.total(), values.sum(0).reshape(3, 10))
    assert torch.allclose(chunk.squares(), values.square().sum((1, 2, 3)))
    assert torch.allclose(chunk.inner(Dense(values.flip(0))), (values * values.flip(0)).sum((1, 2, 3)))
    signs = torch.einsum("jqo,jqi->joi", rows, columns)
    assert torch.allclose(chunk.signed(rows, columns), torch.einsum("coi,joi->cj", values.reshape(4, 3, 10), signs))
    assert torch.equal(chunk.entries(torch.tensor([7, 0])), values.flatten(1)[:, [7, 0]])


@pytest.mark.parametrize("shape", [(), (3,)])
def test_a_scalar_and_a_vector_are_matrices_too(shape):
    values = torch.randn(4, *shape)
    chunk = Dense(values)
    n = values[0].numel()
    assert torch.allclose(chunk.total().flatten(), values.sum(0).flatten())
    assert torch.allclose(chunk.squares(), values.reshape(4, n).square().sum(1))
    assert torch.allclose(chunk.signed(torch.ones(1, 1, n), torch.ones(1, 1, 1))[:, 0], values.reshape(4, n).sum(1))
