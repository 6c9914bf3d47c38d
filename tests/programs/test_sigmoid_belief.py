"""The belief net's joint density written out, and its start."""

import pytest
import torch
from torch.distributions import Bernoulli

from pplvm.particles.draw import draw_particles
from pplvm.programs.sigmoid_belief import SigmoidBeliefNet
from tests.problems import Forced, small_net, two_data


def test_two_layers_by_hand():
    net, x = small_net((2, 3)), two_data()
    z_1, z_2 = torch.tensor([[1.0, 0.0], [1.0, 1.0]]), torch.tensor([[0.0, 1.0, 1.0], [0.0, 0.0, 1.0]])
    with Forced({"z_1": z_1, "z_2": z_2}):
        found = draw_particles(net.model, net.guide, x)
    above, below = net.decoders
    up_x, up_2 = net.encoders[1], net.encoders[0]
    log_p = (
        Bernoulli(logits=net.prior_logits).log_prob(z_1).sum(-1)
        + Bernoulli(logits=above(2 * z_1 - 1)).log_prob(z_2).sum(-1)
        + Bernoulli(logits=below(2 * z_2 - 1)).log_prob(x).sum(-1)
    )
    log_q = Bernoulli(logits=up_x(x - 0.5)).log_prob(z_2).sum(-1) + Bernoulli(logits=up_2(2 * z_2 - 1)).log_prob(
        z_1
    ).sum(-1)
    torch.testing.assert_close(found.log_p, log_p.unsqueeze(0))
    torch.testing.assert_close(found.log_q, log_q.unsqueeze(0))
    assert found.score_sites == ("z_2", "z_1")


def test_the_mean_of_the_data_is_where_it_starts():
    mean = torch.tensor([0.2, 0.9, 0.0])
    net = SigmoidBeliefNet(3, (2,), (4,), data_mean=mean)
    torch.testing.assert_close(net.decoders[-1].last.bias.sigmoid(), torch.tensor([0.2, 0.9, 0.01]))
    torch.testing.assert_close(net.centre, mean)
    assert "centre" in net.state_dict()


def test_no_layer_is_refused():
    with pytest.raises(ValueError, match="latent_sizes must name at least one layer"):
        SigmoidBeliefNet(3, ())
