"""Leave-one-out where draws are impossible."""

import math

import torch

from pplvm.bounds import iwae
from pplvm.objectives.score_function import leave_one_out_weights


def test_the_mean_of_the_others_where_draws_are_impossible():
    log_weights = torch.tensor([[0.0, 0.0], [-math.inf, -math.inf], [1.0, -math.inf]])  # (K, B)
    replaced = leave_one_out_weights(log_weights)
    assert replaced[1, 1, 0] == 0.5 and replaced[0, 0, 0] == replaced[2, 2, 0] == -math.inf
    assert (torch.diagonal(replaced[..., 1]) == -math.inf).all()
    assert not (iwae(log_weights) - iwae(replaced)).isnan().any()
    likely = torch.randn(3, 2)
    assert torch.allclose(torch.diagonal(leave_one_out_weights(likely)).T, (likely.sum(0) - likely) / 2)
