"""The mixture's log p(x) from its exact objective and from torch's own mixture."""

import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from pplvm.objectives.exact import Exact
from pplvm.objectives.objective import Loss
from pplvm.programs.mixture import MixtureOfGaussians


def test_log_evidence_is_that_of_a_mixture():
    program, x = MixtureOfGaussians(2, 3, seed=4), torch.randn(5, 2)
    with torch.no_grad():
        program.weight_logits.copy_(torch.randn(3))
        program.log_scales.copy_(torch.randn(3))
    parts = Independent(Normal(program.locs, program.log_scales.exp().unsqueeze(-1)), 1)
    log_evidence = MixtureSameFamily(Categorical(logits=program.weight_logits), parts).log_prob(x)
    torch.testing.assert_close(Loss(Exact(), program)(x), -log_evidence.mean())


def test_the_seed_sets_the_locations_and_leaves_the_random_state():
    torch.manual_seed(5)
    first = MixtureOfGaussians(seed=1).locs
    torch.manual_seed(6)
    assert torch.equal(first, MixtureOfGaussians(seed=1).locs)
    assert not torch.equal(first, MixtureOfGaussians(seed=2).locs)
