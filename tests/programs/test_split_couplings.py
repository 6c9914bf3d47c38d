"""Chains of couplings: identity at the start, inverse, log-determinant, and which pixel depends on which."""

import pytest
import torch
from torch import nn

from pplvm.programs.split_couplings import SplitCouplings, affine, mixture

SHAPES = [(5,), (1, 4, 4)]


def stirred(chain):
    for each in chain.networks:
        nn.init.normal_(each.last.weight, std=0.3)
    return chain


def run(chain, x, context=None):
    total = 0.0
    for transform in chain(context):
        y = transform(x)
        total, x = total + transform.log_abs_det_jacobian(x, y), y
    return x, total


@pytest.mark.parametrize("shape", SHAPES)
def test_affine_couplings_start_as_the_identity(shape):
    chain = SplitCouplings(shape, 4, affine(), channels=6)
    x = torch.randn(3, chain.size)
    y, log_det = run(chain, x)
    assert torch.equal(y, x) and torch.equal(log_det, torch.zeros(3))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", [affine(), mixture(3)], ids=["affine", "mixture"])
@pytest.mark.parametrize("conditional", [False, True])
def test_log_det_and_inverse(shape, kind, conditional):
    chain = stirred(SplitCouplings(shape, 2, kind, channels=6, conditional=conditional))
    x = torch.randn(chain.size)
    context = torch.randn(chain.size) if conditional else None
    y, log_det = run(chain, x, context)
    jacobian = torch.autograd.functional.jacobian(lambda v: run(chain, v, context)[0], x)
    torch.testing.assert_close(log_det, torch.linalg.slogdet(jacobian)[1], atol=1e-10, rtol=0)
    for transform in reversed(chain(context)):
        y = transform.inv(y)
    torch.testing.assert_close(y, x, atol=1e-7, rtol=0)


def test_the_context_reaches_each_pixel_in_its_own_place():
    """A pixel's noise depends on the context nearby: moved with the pixels, not left in another order."""
    chain = stirred(SplitCouplings((1, 8, 8), 2, affine(), channels=6, conditional=True))
    x, context = torch.zeros(64), torch.randn(64)
    slopes = torch.autograd.functional.jacobian(lambda c: run(chain, x, c)[0], context).abs()
    far = (torch.arange(64) // 8)[:, None] - (torch.arange(64) // 8)
    assert (slopes[far.abs() > 7] == 0).all() and (slopes.diagonal() > 0).all()
    near = slopes[far.abs() <= 1].mean()
    assert near > 3 * slopes[far.abs() >= 4].mean()


def test_components_are_at_least_one():
    with pytest.raises(ValueError, match="num_components of a mixture coupling must be at least 1, got 0"):
        mixture(0)
