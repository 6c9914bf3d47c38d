"""Latents that a guide leaves out: Pyro's TraceEnum_ELBO sums them out as Exact does, its other ELBOs are refused."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import RenyiELBO, ReweightedWakeSleep, Trace_ELBO, TraceEnum_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO
from torch import Tensor, nn

from pplvm.objectives.exact import Exact
from pplvm.objectives.objective import Loss, ObjectiveError
from pplvm.objectives.pyro_objective import PyroObjective

X = torch.tensor([0.3, -1.2, 2.0], dtype=torch.float64)
PARALLEL = {"enumerate": "parallel"}
MANY = {"num_particles": 2, "vectorize_particles": True, "max_plate_nesting": 1}


class Mixture(nn.Module):
    """z ~ Categorical, x | z ~ N(m_z, 1); z is marked for enumeration, or not, in the model or in the guide."""

    def __init__(self, infer: dict, drawn: bool = False) -> None:
        super().__init__()
        self.infer, self.drawn = infer, drawn
        self.weights, self.means = nn.Parameter(torch.tensor([0.2, -0.4])), nn.Parameter(torch.tensor([-1.0, 2.0]))

    def model(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Categorical(logits=self.weights), infer={} if self.drawn else self.infer)
            pyro.sample("x", dist.Normal(self.means[z], 1.0), obs=x)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            if self.drawn:
                pyro.sample("z", dist.Categorical(logits=self.joint(x).T), infer=self.infer)

    def joint(self, x: Tensor) -> Tensor:
        """Log p(x, z), (2, B)."""
        return self.weights.log_softmax(0).unsqueeze(1) + dist.Normal(self.means.unsqueeze(1), 1.0).log_prob(x)


def test_what_is_marked_is_summed_out_as_by_exact():
    program = Mixture(PARALLEL)
    truth = -float(program.joint(X).logsumexp(0).mean().detach())
    for objective in (TraceEnum_ELBO(max_plate_nesting=1), Exact()):
        assert float(Loss(objective, program)(X).detach()) == pytest.approx(truth)
    drawn = Loss(TraceEnum_ELBO(max_plate_nesting=1), Mixture(PARALLEL, drawn=True))  # a guide that is the posterior
    assert float(drawn(X).detach()) == pytest.approx(truth)


@pytest.mark.parametrize(
    "objective, name",
    [
        (Trace_ELBO(), "Trace_ELBO"),
        (TraceMeanField_ELBO(), "TraceMeanField_ELBO"),
        (PyroObjective(TraceGraph_ELBO()), "TraceGraph_ELBO"),
        (PyroObjective(RenyiELBO(**MANY), allow_biased=True), "RenyiELBO"),
        (PyroObjective(ReweightedWakeSleep(**MANY), allow_biased=True), "ReweightedWakeSleep"),
    ],
)
def test_others_are_refused_where_they_would_draw_from_the_prior(objective, name):
    loss = Loss(objective, Mixture(PARALLEL))
    for _ in range(2):
        with pytest.raises(ObjectiveError, match=f"Pyro's {name} cannot sum out site 'z'.*: use Exact or TraceEnum"):
            loss(X)
    if name != "TraceMeanField_ELBO":  # which wants a path
        Loss(objective, Mixture({}, drawn=True))(X).backward()


def test_a_latent_without_its_mark_is_refused():
    with pytest.raises(ObjectiveError, match=r"would draw site 'z'.*: mark it infer=\{'enumerate': 'parallel'\}"):
        Loss(TraceEnum_ELBO(max_plate_nesting=1), Mixture({}))(X)
