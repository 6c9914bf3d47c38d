"""A datum's noise is its own; evaluation leaves the program as it was."""

import pytest
import torch

from pplvm.evaluation.active_units import active_units
from pplvm.evaluation.annealing.annealed import annealed
from pplvm.evaluation.likelihood import importance_sampled
from pplvm.evaluation.per_datum import datum_seeds, draw_in_chunks, each_datum, evaluation_mode
from pplvm.evaluation.rate_distortion import rate_distortion
from pplvm.particles.contract import ProgramError
from pplvm.programs.vae import VAE


def test_a_datums_particles_depend_on_neither_order_nor_company():
    program, x = VAE(6, 2, (5,)), torch.eye(6)[:4]

    def log_weights(data):
        with evaluation_mode(program, data) as pair:
            draws = [torch.cat([d.log_weights for d in draw_in_chunks(pair, row, 700)]) for row in each_datum(data, 3)]
        return torch.cat(draws, 1)

    whole = log_weights(x)
    assert whole.shape == (700, 4)
    assert torch.equal(whole.flip(1), log_weights(x.flip(0)))
    assert torch.equal(whole[:, 2:], log_weights(x[2:]))
    assert not torch.equal(whole[:500, 0], whole[:500, 1])


def test_equal_data_have_noise_of_their_own_in_any_order():
    x = torch.tensor([0.0, 1.0, 0.0, 0.0, 1.0]).unsqueeze(1)
    seeds = datum_seeds(x, 3)
    assert len(set(seeds)) == 5 and seeds[0] == datum_seeds(x[:1], 3)[0] and seeds[1] == datum_seeds(x[4:], 3)[0]
    order = [4, 2, 3, 1, 0]
    assert sorted(datum_seeds(x[order], 3)) == sorted(seeds)
    noise = [float(torch.rand(())) for _ in each_datum(x, 3)]
    parts = [float(torch.rand(())) for part in range(2) for _ in each_datum(x[part::2], seeds[part::2])]
    assert len(set(noise)) == 5 and parts == noise[::2] + noise[1::2]


def test_modes_and_the_random_state_come_back():
    program = VAE(6, 2, (5,))
    program.encoder.eval()
    state = torch.get_rng_state()
    with evaluation_mode(program, torch.zeros(2, 6)):
        assert not program.training and not torch.is_grad_enabled()
        torch.rand(3)
    assert program.training and not program.encoder.training and program.decoder.training
    assert torch.equal(state, torch.get_rng_state())


def test_no_data_and_broken_programs_are_refused():
    with pytest.raises(ValueError, match="no data to evaluate"), evaluation_mode(VAE(6, 2), torch.zeros(0, 6)):
        pass
    program = VAE(6, 2)
    program.guide = lambda x: None
    with pytest.raises(ProgramError, match="no site 'z'"), evaluation_mode(program, torch.zeros(1, 6)):
        pass


def test_particles_that_a_program_mixes_are_not_evaluated():
    program, x = VAE(6, 2, (5,)), torch.rand(4, 6).round()
    program.decoder = torch.nn.Sequential(Centred(), program.decoder)
    with evaluation_mode(program, x):
        pass
    for ask in (importance_sampled, rate_distortion, active_units, annealed):
        with pytest.raises(ProgramError, match=r"K > 1 .* what leaves layer 'decoder.0' \(Centred\) differs"):
            ask(program, x)


class Centred(torch.nn.Module):
    """Takes the first dimension, the particles', for that of one datum's coordinates."""

    def forward(self, z):
        return z - z.mean(0) if z.dim() == 3 else z
