"""The VampPrior's program: where it starts, that other data rebuild it, and what it refuses."""

import pytest
import torch

from pplvm.programs.vamp_vae import vamp_vae

D = 6


def test_pseudo_inputs_start_at_examples_spread_over_those_there_are():
    examples = 0.1 + 0.8 * torch.rand(10, D)
    program = vamp_vae(D, 2, (5,), num_components=5, data_examples=examples)
    torch.testing.assert_close(program.prior.pseudo_inputs.detach(), examples[::2])
    program = vamp_vae(D, 2, (5,), num_components=25, data_examples=examples)
    torch.testing.assert_close(program.prior.pseudo_inputs[:10].detach(), examples)
    torch.testing.assert_close(program.prior.pseudo_inputs[19].detach(), (examples[9] + examples[0]) / 2)
    assert len(program.prior.pseudo_inputs.unique(dim=0)) == 25


def test_weights_fit_whatever_data_it_is_rebuilt_with():
    many, few = (vamp_vae(D, 2, (5,), data_examples=torch.rand(N, D)) for N in (500, 30))
    few.load_state_dict(many.state_dict())
    assert torch.equal(few.prior.pseudo_inputs, many.prior.pseudo_inputs)


def test_real_data_bound_no_pseudo_inputs():
    examples = 5 * torch.randn(4, D)
    program = vamp_vae(D, 2, (5,), "gaussian", num_components=4, data_examples=examples)
    assert program.prior.bounds is None and torch.equal(program.prior.pseudo_inputs, examples)


def test_the_mean_of_the_data_is_where_the_decoder_starts():
    mean = torch.full((D,), 0.3)
    torch.testing.assert_close(vamp_vae(D, data_mean=mean).decoder.last.bias.sigmoid(), mean)


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"num_components": 0}, "vamp_vae: num_components must be at least 1, got 0"),
        ({"data_examples": torch.rand(4, 5)}, r"data_examples of shape \(4, 5\) are no data of size 6: give \(N, 6\)"),
        ({"data_examples": torch.rand(0, 6)}, r"data_examples of shape \(0, 6\) are no data"),
        ({"likelihood": "poisson"}, "likelihood must be 'bernoulli' or"),
    ],
)
def test_what_makes_no_program_is_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        vamp_vae(**{"data_size": D} | settings)
