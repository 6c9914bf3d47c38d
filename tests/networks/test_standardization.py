"""Running location and scale: those of the data, averaged over ranks exactly, and untouched by looking."""

import pytest
import torch

from pplvm.networks.standardization import RunningStandardization


def test_the_first_batches_are_averaged_and_a_constant_is_not_scaled_away():
    standardization, x = RunningStandardization(3), torch.randn(4, 50, 3) * torch.tensor([1.0, 5.0, 0.0]) + 2
    for batch in x:
        standardization.observe(batch)
        standardization.after_step()
    torch.testing.assert_close(standardization.loc, x.mean((0, 1)))
    expected = x.flatten(0, 1).std(0, correction=0)
    torch.testing.assert_close(standardization.scale[:2], expected[:2])
    assert standardization.scale[2] == 1e-3


def test_later_batches_have_the_momentum_and_particles_count_as_rows():
    standardization = RunningStandardization(1, momentum=0.5)
    for level in (0.0, 1.0, 1.0, 1.0):
        standardization.observe(torch.full((2, 3, 1), level))
        standardization.after_step()
    torch.testing.assert_close(standardization.loc, torch.tensor([0.875]))


def test_ranks_that_average_their_buffers_have_those_of_all_rows():
    ranks, x = [RunningStandardization(2) for _ in range(2)], torch.randn(5, 2, 10, 2)
    whole = RunningStandardization(2)
    for batch in x:
        whole.observe(batch)
        whole.after_step()
        for rank, part in zip(ranks, batch, strict=True):
            rank.observe(part)
        mean = (ranks[0].seen + ranks[1].seen) / 2  # what data parallelism does
        for rank in ranks:
            rank.seen.copy_(mean)
            rank.after_step()
        for name, buffer in whole.named_buffers():
            for rank in ranks:
                torch.testing.assert_close(rank.get_buffer(name), buffer)


def test_evaluation_and_a_look_without_gradients_leave_it():
    standardization = RunningStandardization(2)
    standardization.eval().observe(torch.ones(3, 2))
    with torch.no_grad():
        standardization.train().observe(torch.ones(3, 2))
    standardization.after_step()
    assert standardization.batches == 0 and torch.equal(standardization.scale, torch.ones(2))


def test_within_a_step_it_stays_and_several_batches_of_one_are_averaged():
    standardization = RunningStandardization(1, momentum=0.5)
    for level in (1.0, 3.0):
        standardization.observe(torch.full((4, 1), level))
        assert standardization.loc == 0
    standardization.after_step()
    assert standardization.loc == 2 and standardization.batches == 1
    standardization.after_step()
    assert standardization.loc == 2 and standardization.batches == 1


@pytest.mark.parametrize(("size", "momentum"), [(0, 0.1), (2, 0.0), (2, 1.5)])
def test_bad_input(size, momentum):
    with pytest.raises(ValueError, match="RunningStandardization: size must be"):
        RunningStandardization(size, momentum)
