"""Paths of latents: known answers."""

import math

import torch

from pplvm.evaluation.interpolation import linear_path, spherical_path, stepwise_path

SHARES = torch.linspace(0, 1, 7, dtype=torch.float64)


def test_both_ends_are_exact_on_every_path():
    start, end = torch.randn(3, 5), torch.randn(3, 5)
    for path in (linear_path, spherical_path, stepwise_path):
        found = path(start, end, SHARES)
        assert found.shape == (7, 3, 5)
        assert torch.equal(found[0], start) and torch.equal(found[-1], end)


def test_a_quarter_circle_at_constant_speed():
    found = spherical_path(torch.tensor([2.0, 0.0]), torch.tensor([0.0, 2.0]), SHARES)
    angles = SHARES * math.pi / 2
    torch.testing.assert_close(found, 2 * torch.stack([angles.cos(), angles.sin()], 1))


def test_the_sphere_is_never_left_and_the_radius_goes_straight():
    start, end = torch.randn(2, 9)
    on_it = spherical_path(start / start.norm(), end / end.norm(), SHARES)
    torch.testing.assert_close(on_it.norm(dim=1), torch.ones(7))
    radii = spherical_path(start, 3 * end, SHARES).norm(dim=1)
    torch.testing.assert_close(radii, torch.lerp(start.norm(), 3 * end.norm(), SHARES))
    chord = linear_path(start / start.norm(), end / end.norm(), SHARES)
    assert chord.norm(dim=1).min() < 0.99, "no power: the ends are nearly parallel"


def test_parallel_vectors_and_the_zero_vector_go_straight():
    start = torch.randn(4)
    for end in (2.5 * start, start, start * (1 + 1e-12), torch.zeros(4)):
        torch.testing.assert_close(spherical_path(start, end, SHARES), linear_path(start, end, SHARES))
        torch.testing.assert_close(spherical_path(end, start, SHARES), linear_path(end, start, SHARES))
    assert torch.equal(spherical_path(torch.zeros(4), torch.zeros(4), SHARES), torch.zeros(7, 4))


def test_nearly_parallel_and_nearly_opposite_vectors_turn_by_their_angle():
    start = torch.tensor([1.0, 0.0, 0.0])
    for angle in (1e-7, 1e-3, math.pi - 1e-3, math.pi - 1e-6):
        end = torch.tensor([math.cos(angle), math.sin(angle), 0.0])
        halfway = spherical_path(start, end, torch.tensor([0.5]))[0]
        expected = torch.tensor([math.cos(angle / 2), math.sin(angle / 2), 0.0])
        torch.testing.assert_close(halfway, expected, rtol=0, atol=1e-9)


def test_opposite_vectors_go_around_and_one_dimension_goes_through():
    start = torch.tensor([0.6, -0.64, 0.48])
    found = spherical_path(start, -start, SHARES)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(7))
    torch.testing.assert_close(found[3] @ start, torch.tensor(0.0))
    assert spherical_path(torch.tensor([1.0]), torch.tensor([-1.0]), SHARES)[3].abs() < 1e-15


def test_float32_keeps_to_the_sphere():
    start, end = torch.randn(2, 64).float()
    found = spherical_path(start, end, SHARES.float())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.norm(dim=1), torch.lerp(start.norm(), end.norm(), SHARES.float()))


def test_discrete_coordinates_step_over_in_their_order():
    found = stepwise_path(
        torch.tensor([[0.0, 1.0, 1.0, 0.0]]), torch.tensor([[1.0, 1.0, 0.0, 1.0]]), torch.linspace(0, 1, 4)
    )
    assert found[:, 0].tolist() == [[0, 1, 1, 0], [1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 0, 1]]


def test_one_hot_vectors_step_over_whole():
    start, end = torch.eye(3)[[0, 1, 2]], torch.eye(3)[[2, 1, 0]]
    found = stepwise_path(start, end, torch.tensor([0.0, 0.5, 1.0]), own_dims=1)
    assert found.shape == (3, 3, 3)
    assert found.argmax(-1).tolist() == [[0, 1, 2], [2, 1, 2], [2, 1, 0]]
    assert torch.equal(
        stepwise_path(torch.tensor([4]), torch.tensor([7]), torch.tensor([0.0, 1.0])), torch.tensor([[4], [7]])
    )
