"""Convolutions at K = 50: every particle's log-weight is the one that it has alone."""

import pytest
import torch

from pplvm.bounds import elbo, iwae
from pplvm.commands.building.builders import build_program
from pplvm.data.binarization import binarize
from pplvm.data.images import digits
from pplvm.evaluation.samples import prior_samples
from pplvm.graphs.compiled import compiled
from pplvm.objectives.objective import Loss
from pplvm.objectives.path_gradients import DoublyReparameterized
from pplvm.objectives.pathwise import Pathwise
from pplvm.particles.pair import draw_from_pair, pair_up
from tests.problems import Forced
from tests.seams.moments import gradient
from tests.seams.programs import Convolutional

K = 50


def images(count=6):
    return (torch.rand(count, 1, 8, 8) < 0.4).double()


def alone(pair, x, z):
    """The log-weights (K, B) of draws z (K, B, Z), a particle at a time."""
    rows = []
    for each in z:
        with Forced({"z": each}):
            rows.append(draw_from_pair(pair, 1, (x,), {}).log_weights)
    return torch.cat(rows)


def test_fifty_particles_have_the_log_weights_of_fifty_runs_of_one():
    program, x = Convolutional((1, 8, 8)), images()
    pair = pair_up(program.model, program.guide, (x,), {})
    drawn = draw_from_pair(pair, K, (x,), {})
    assert drawn.log_weights.shape == (K, 6)
    z = drawn.guide_trace.nodes["z"]["value"]
    torch.testing.assert_close(drawn.log_weights, alone(pair, x, z))
    assert (drawn.log_weights - alone(pair, x, z.roll(1, 0))).abs().max() > 0.1  # particles that were mixed up


@pytest.mark.parametrize("tier", ["off", "graph"])
@pytest.mark.parametrize("make", [lambda: Pathwise(iwae, K), lambda: DoublyReparameterized(iwae, K)])
def test_the_bound_of_fifty_and_its_gradient_are_those_of_the_log_weights(make, tier):
    program, x = Convolutional((1, 8, 8)), images()
    pair = pair_up(program.model, program.guide, (x,), {})
    torch.manual_seed(5)
    z = pair.run_guide(K, (x,), {}).nodes["z"]["value"]
    truth = -iwae(alone(pair, x, z)).mean()
    torch.manual_seed(5)
    found = compiled(Loss(make(), program), tier).backward(x)
    torch.testing.assert_close(found, truth.detach())
    if isinstance(make(), Pathwise):
        grads = torch.cat([p.grad.flatten() for p in program.parameters()])
        torch.testing.assert_close(grads, gradient(truth, program))
    assert found < -elbo(alone(pair, x, z)).mean()


def test_grey_images_have_a_channel_where_a_program_asks_for_their_shape():
    data = binarize(digits("train"), "static")
    program = build_program_of(data)
    assert program.half == (4, 4, 4)


def build_program_of(data):
    import sys
    import types

    module = types.ModuleType("seams_of_shape")
    module.Convolutional = Convolutional
    sys.modules["seams_of_shape"] = module
    try:
        return build_program("seams_of_shape:Convolutional", [], data, 0)
    finally:
        del sys.modules["seams_of_shape"]


def test_samples_have_the_shape_of_images():
    samples = prior_samples(Convolutional((1, 8, 8)), images(1), 5)
    assert samples.mean.shape == samples.draw.shape == (5, 1, 8, 8)
