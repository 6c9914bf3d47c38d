"""Codes used: counted over all data and positions, of every one-hot latent of the guide."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pplvm.distributions.nearest_code import NearestCode
from pplvm.evaluation.code_usage import code_usage, perplexity, share_used
from pplvm.evaluation.evaluate import evaluate
from pplvm.programs.ppca import ProbabilisticPCA


class TwoSites(nn.Module):
    """Data name their codes: "codes" are the nearest at two positions, "kind" is drawn; "height" is no code."""

    def __init__(self):
        super().__init__()
        self.codes = nn.Parameter(torch.tensor([[0.0], [1.0], [2.0], [9.0]]))

    def model(self, x):
        with pyro.plate("batch", len(x)):
            pyro.sample("codes", dist.OneHotCategorical(logits=x.new_zeros(2, 4)).to_event(1))
            pyro.sample("kind", dist.OneHotCategorical(logits=x.new_zeros(3)))
            height = pyro.sample("height", dist.Normal(x.new_zeros(()), 1.0))
            pyro.sample("x", dist.Normal(height[..., None] + 0 * x, 1.0).to_event(1), obs=x)

    def guide(self, x):
        with pyro.plate("batch", len(x)):
            pyro.sample("codes", NearestCode(x[..., None], self.codes).to_event(1))
            pyro.sample("kind", dist.OneHotCategorical(logits=x.new_tensor([0.0, 0.0, -500.0])))
            pyro.sample("height", dist.Normal(x.mean(-1), 1.0))


X = torch.tensor([[0.1, 1.2], [0.9, 0.8], [-5.0, 1.9], [0.0, 0.0]], dtype=torch.float64)


def test_positions_and_data_are_pooled_by_site():
    found = code_usage(TwoSites(), X)
    assert found.counts.keys() == {"codes", "kind"}
    assert found.counts["codes"].tolist() == [[1, 1, 0, 0], [0, 2, 0, 0], [1, 0, 1, 0], [2, 0, 0, 0]]
    p = torch.tensor([4, 3, 1]) / 8
    assert torch.allclose(found.shares["codes"], torch.tensor([4, 3, 1, 0]) / 8)
    figures = {figure.name: figure for figure in found.figures}
    assert figures["perplexity of codes"].value == pytest.approx(float((-(p * p.log()).sum()).exp()))
    assert figures["codes used by codes"].value == 75.0 and figures["codes used by codes"].note.startswith("3 of 4")
    assert found.counts["kind"].sum(1).tolist() == [1.0] * 4 and found.counts["kind"][:, 2].sum() == 0


def test_the_perplexity_over_data_is_not_the_mean_of_that_of_batches():
    """The mutant: each datum alone uses one code, and all together four."""
    counts = torch.eye(4)
    assert float(perplexity(counts.sum(0))) == pytest.approx(4.0) and float(perplexity(counts).mean()) == 1.0
    assert float(share_used(torch.tensor([2.0, 0.0, 1.0, 0.0]))) == 0.5


def test_evaluate_has_a_section_where_there_are_codes():
    found = evaluate(TwoSites(), X, ks=(1,), information_data=0)
    assert [figure.name for figure in found.sections["code usage"]] == [
        "perplexity of codes", "codes used by codes", "perplexity of kind", "codes used by kind",
    ]  # fmt: skip
    assert "code usage" not in evaluate(ProbabilisticPCA(2), X, ks=(1,), information_data=0).sections
