"""Every refusal of the waist, with the words that name the site and the cure; and what is not refused."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.distributions.testing.rejection_exponential import RejectionExponential
from torch import nn

from pplvm.objectives.exact import Exact
from pplvm.objectives.objective import Loss
from pplvm.objectives.pathwise import Pathwise
from pplvm.particles.contract import ProgramError
from pplvm.particles.draw import draw_particles
from pplvm.particles.pair import inspect_pair

B = 3


def program(*sites, plate=lambda x: pyro.plate("batch", len(x))):
    """Sites in one plate: (name, fn) or, if observed, (name, fn, True)."""

    def run(x):
        with plate(x):
            for name, fn, *observed in sites:
                pyro.sample(name, fn, obs=x if observed else None)

    return run


N01 = dist.Normal(0.0, 1.0)
OBSERVED = ("x", dist.Normal(0.0, 2.0), True)
model, guide = program(("z", N01), OBSERVED), program(("z", dist.Normal(1.0, 1.0)))


N01_2 = dist.Normal(torch.zeros(2), 1.0).to_event(1)
N01_4 = dist.Normal(torch.zeros(4), 1.0).to_event(1)


def of_1000(x):
    return pyro.plate("batch", 1000, subsample_size=len(x))


def one_outside(x):
    w = pyro.sample("w", N01)
    with pyro.plate("batch", len(x)):
        pyro.sample("z", dist.Normal(w, 1.0))


def one_outside_observed(x):
    one_outside(x)
    pyro.sample("x", dist.Normal(torch.zeros(B), 1.0).to_event(1), obs=x)


def looped(x):
    for i in pyro.plate("batch", len(x)):
        z = pyro.sample(f"z_{i}", N01)
        pyro.sample(f"x_{i}", dist.Normal(z, 1.0), obs=x[i])


def two_plates(x):
    with pyro.plate("features", B):
        pyro.sample("w", N01)
    guide(x)


def entered_twice(x):
    guide(x)
    with pyro.plate("batch", len(x)):
        pyro.sample("y", N01)


def batch_on_the_left(x):
    with pyro.plate("pixels", 2), pyro.plate("batch", len(x)):
        pyro.sample("z", N01)


def with_param(x):
    loc = pyro.param("loc", torch.zeros(()))
    with pyro.plate("batch", len(x)):
        pyro.sample("z", dist.Normal(loc, pyro.param("scale", torch.ones(()), dist.constraints.positive)))


def with_linear(x):
    net = nn.Linear(2, 1, dtype=torch.float32)
    with pyro.plate("batch", len(x)):
        z = pyro.sample("z", N01_2)
        pyro.sample("x", dist.Normal(net(z).squeeze(-1), 1.0), obs=x)


def deterministic(x):
    with pyro.plate("batch", len(x)):
        pyro.deterministic("z", x)


OUTSIDE = "is outside the batch plate: put it inside `with pyro.plate"
REFUSED = {
    "model site outside": (
        one_outside_observed,
        guide,
        ["model site 'w' " + OUTSIDE, "model site 'x' " + OUTSIDE],
    ),
    "guide site outside": (model, one_outside, ["guide site 'w' " + OUTSIDE]),
    "loop over the data": (looped, lambda x: None, ["model site 'z_0' " + OUTSIDE, "more"]),
    "second plate at dim -1": (
        model,
        two_plates,
        ["guide site 'w' is in plate 'features' at dim=-1, where 'batch' holds the data: put it into"],
    ),
    "plate made twice": (
        model,
        entered_twice,
        ["guide: Multiple sample sites named 'batch': ", "as one object"],
    ),
    "batch on the left": (model, batch_on_the_left, ["guide site 'z': the plate 'batch' must be at dim=-1"]),
    "no guide site": (model, lambda x: None, ["the guide has no site 'z', a latent of the model: add it"]),
    "misnamed": (
        program(("z_top", N01), ("z_low", N01), OBSERVED),
        program(("z_top", N01), ("z_lwo", N01)),
        [
            "has no site 'z_low'",
            "did you mean 'z_lwo'",
            "'z_lwo' is no latent of the model: remove or rename",
        ],
    ),
    "deterministic": (model, deterministic, ["the guide has no site 'z'"]),
    "observed in the model": (
        model,
        program(("z", N01), ("x", N01)),
        ["guide site 'x' is observed in the model"],
    ),
    "observed in the guide": (
        model,
        program(("z", N01, True)),
        ["'z' is observed in the guide: remove obs="],
    ),
    "Normal for LogNormal": (
        program(("z", dist.LogNormal(0.0, 1.0)), OBSERVED),
        guide,
        ["'z' has support Real() in the guide and GreaterThan(lower_bound=0.0) in the model: draw it from"],
    ),
    "relaxed for Bernoulli": (
        program(("z", dist.Bernoulli(0.5)), OBSERVED),
        program(("z", dist.RelaxedBernoulli(torch.tensor(0.5), torch.tensor(0.5)))),
        ["'z' has support Interval(lower_bound=0.0, upper_bound=1.0) in the guide and Boolean()"],
    ),
    "event shape": (
        program(("z", N01_2), OBSERVED),
        program(("z", N01_4)),
        ["'z' has event shape (4,) in the guide and (2,) in the model: make them equal"],
    ),
    "event shape, before the network fails": (
        with_linear,
        program(("z", N01_4)),
        ["'z' has event shape (4,) in the guide and (2,) in the model"],
    ),
    "plate size in the model": (
        program(("z", N01), OBSERVED, plate=of_1000),
        guide,
        ["'z' is in plates of size 3 at dim -1 in the guide and 3 of 1000 at dim -1 in the model"],
    ),
    "plate size in the guide": (
        model,
        program(("z", N01), plate=of_1000),
        ["'z' is in plates of size 3 of 1000 at dim -1 in the guide and 3 at dim -1", "is scaled by 333.333"],
    ),
    "nothing observed": (program(("z", N01)), guide, ["the model has no observed site", "obs=x"]),
    "param of no module": (
        model,
        with_param,
        [
            "guide has pyro.param('loc'), which no module owns",
            "pyro.param('scale')",
            "make it an nn.Parameter",
        ],
    ),
    "scale of one program": (
        poutine.scale(model, 0.5),
        guide,
        [
            "guide site 'z' is scaled by 1 and model site 'z' by 0.5",
            "no bound",
            "scale all sites by one number",
        ],
    ),
    "scale by a tensor": (
        poutine.scale(model, torch.tensor(0.5)),
        poutine.scale(guide, torch.tensor(0.5)),
        ["model site 'z' is scaled by a tensor: scale all sites by one Python number"],
    ),
    "no to_event": (
        program(("z", N01), ("x", dist.Normal(torch.zeros(B, 2), 1.0), True)),
        guide,
        ["model: Shape mismatch inside plate('batch') at site x dim -1, 3 vs 2: ", ".to_event()"],
    ),
    "no to_event, square": (
        model,
        program(("z", dist.Normal(torch.zeros(B, B), 1.0))),
        ["guide site 'z' has batch dimensions that no plate declares: use .to_event()"],
    ),
    "data outside the support": (
        program(("z", N01), ("x", dist.Bernoulli(0.5), True)),
        guide,
        ["model site 'x' gives its value no density: make the two agree in shape and support", "Boolean()"],
    ),
    "rejection sampler": (
        program(("z", dist.Exponential(torch.ones(2)).to_event(1)), OBSERVED),
        program(("z", RejectionExponential(torch.ones(2), torch.full((2,), 0.5)).to_event(1))),
        ["guide site 'z' is a rejection sampler", "use the plain pyro.distributions class"],
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_words_that_name_the_site_and_the_cure(case):
    model, guide, words = REFUSED[case]
    with pytest.raises(ProgramError) as refusal:
        draw_particles(model, guide, torch.tensor([0.5, 2.0, -1.0]), num_particles=2)
    for word in words:
        assert word in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_refused_param_is_not_left_in_the_store_and_none_is_taken_from_it():
    pyro.param("mine", torch.tensor(3.0))
    try:
        assert inspect_pair(model, with_param, (torch.randn(B),), {})[2]
        assert list(pyro.get_param_store().keys()) == ["mine"]
        assert pyro.param("mine") == 3.0
    finally:
        pyro.clear_param_store()


def test_what_the_programs_themselves_get_wrong_is_raised_as_it_is():
    def broken(x):
        raise ZeroDivisionError("my own")

    def broken_off_the_prior(x):
        with pyro.plate("batch", len(x)):
            if (pyro.sample("z", N01) > 50).any():
                raise ZeroDivisionError("my own")
            pyro.sample("x", dist.Normal(0.0, 2.0), obs=x)

    far_off = program(("z", dist.Normal(100.0, 1.0)))
    for pair in ((broken, guide), (model, broken), (broken_off_the_prior, far_off)):
        with pytest.raises(ZeroDivisionError, match="my own"):
            inspect_pair(*pair, (torch.randn(B),), {})


def test_sites_summed_out_must_not_be_in_the_guide():
    class Twice(nn.Module):
        def model(self, x):
            program(("d", dist.Bernoulli(0.5)), ("z", N01), OBSERVED)(x)

        def guide(self, x):
            program(("d", dist.Bernoulli(0.5)), ("z", N01))(x)

    with pytest.raises(ProgramError, match="guide site 'd' is summed out: remove or rename it"):
        Loss(Exact(), Twice())(torch.randn(B))


def test_a_scale_that_comes_later_is_refused_as_well():
    objective, x = Pathwise(), torch.randn(B)
    scales = iter([1.0, 1.0, 0.5])

    def annealed(x):
        with poutine.scale(scale=next(scales)):
            model(x)

    objective.loss(annealed, guide, x)
    with pytest.raises(ProgramError, match="'z' is scaled by 1 and site 'z' by 0.5"):
        objective.loss(annealed, guide, x)


def mixture():
    return dist.MixtureSameFamily(dist.Categorical(torch.ones(2)), dist.Normal(torch.zeros(2), 1.0))


def flow():
    return dist.TransformedDistribution(N01_2, [dist.transforms.Planar(2)])


ONE_SUPPORT = {
    "open and closed ends": (dist.Gamma(1.0, 1.0), dist.LogNormal(0.0, 1.0)),
    "one bound, many bounds": (dist.Uniform(0.0, 1.0), dist.Uniform(torch.zeros(B), torch.ones(B))),
    "mixture": (mixture(), N01),
    "vector and event": (
        dist.MultivariateNormal(torch.zeros(2), torch.eye(2)),
        N01_2,
    ),
    "flow": (N01_2, flow()),
    "point": (dist.Gamma(1.0, 1.0), dist.Delta(torch.tensor(2.0))),
}


@pytest.mark.parametrize("case", ONE_SUPPORT)
def test_supports_that_are_one_in_other_words_are_accepted(case):
    p, q = ONE_SUPPORT[case]
    found = draw_particles(program(("z", p), OBSERVED), program(("z", q)), torch.randn(B), num_particles=2)
    assert found.log_weights.isfinite().all()


def test_a_delta_may_stand_on_any_support_however_it_is_wrapped():
    def model(x):
        with pyro.plate("batch", len(x)):
            r = pyro.sample("r", dist.Gamma(torch.ones(len(x), 2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(r, 1.0).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("batch", len(x)):
            u = pyro.sample("u", dist.Normal(x, 1.0).to_event(1), infer={"is_auxiliary": True})
            pyro.sample("r", dist.Delta(u.exp(), log_density=-u).to_event(1))

    assert draw_particles(model, guide, torch.zeros(3, 2)).log_weights.isfinite().all()
