"""The nearest code: an exact one-hot, the right index in any precision, and the slopes of the two rules."""

import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.distributions import kl_divergence

from pplvm.distributions.nearest_code import NearestCode, nearest, rotation, straight_through
from pplvm.objectives.pathwise import closed_forms
from pplvm.particles.pair import draw_from_pair, pair_up
from pplvm.particles.point_masses import has_log_density, is_point
from pplvm.particles.reparameterized_sites import is_reparameterized


def jacobian_of_vectors(fn):
    """The slope by z of what a drawn one-hot reads from the codes, (D, D)."""
    codes = fn.codes
    return torch.autograd.functional.jacobian(lambda z: NearestCode(z, codes, fn.path).rsample() @ codes, fn.z)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("path", [straight_through, rotation])
def test_the_value_is_the_one_hot_of_the_nearest_bit_for_bit(dtype, path):
    z, codes = torch.randn(3000, 8, dtype=dtype, requires_grad=True), torch.randn(64, 8, dtype=dtype)
    fn = NearestCode(z, codes, path)
    expected = torch.cdist(z.detach().double(), codes.double()).argmin(-1)
    assert torch.equal(fn.index, expected)
    one_hot = nn.functional.one_hot(expected, 64).to(dtype)
    assert torch.equal(fn.rsample().detach(), one_hot) and torch.equal(fn.sample(), one_hot)
    assert fn.rsample().requires_grad and not fn.sample().requires_grad
    assert torch.equal(fn.vectors.detach(), codes[expected])
    by_hand = z + (codes[expected] - z).detach()  # as it is usually written
    assert dtype is torch.float64 or (by_hand.detach() != codes[expected]).double().mean() > 0.2


def test_all_mass_is_there():
    z, codes = torch.randn(5, 3, requires_grad=True), torch.randn(4, 3)
    fn = NearestCode(z, codes)
    each = fn.log_prob(fn.enumerate_support())  # (4, 5)
    assert torch.equal(each.exp(), nn.functional.one_hot(fn.index, 4).double().T)
    assert torch.equal(fn.log_prob(fn.rsample()), torch.zeros(5)) and not fn.log_prob(fn.rsample()).requires_grad
    assert torch.equal(fn.mean, fn.sample()) and torch.equal(fn.mode, fn.mean)
    assert torch.equal(fn.entropy(), torch.zeros(5)) and torch.equal(fn.variance, torch.zeros(5, 4))


def test_straight_through_the_slope_of_the_decoder_arrives_as_it_is():
    codes, g = torch.randn(9, 4), torch.randn(6, 4)
    z = torch.randn(6, 4, requires_grad=True)
    drawn = NearestCode(z, codes).rsample()
    (found,) = torch.autograd.grad((drawn @ codes * g).sum(), z)
    torch.testing.assert_close(found, g, rtol=1e-12, atol=1e-12)
    (found,) = torch.autograd.grad((NearestCode(z, codes).vectors * g).sum(), z)
    torch.testing.assert_close(found, g, rtol=0, atol=0)
    naive = drawn.detach() + (z - z.detach()) @ codes.T  # the embedding itself for its inverse
    (found,) = torch.autograd.grad((naive @ codes * g).sum(), z)
    assert (found - g).abs().max() > 0.1


@pytest.mark.parametrize("num_codes, rank", [(3, 3), (8, 4), (3, 2)])
def test_a_slope_that_leaves_the_span_of_the_codes_is_projected_on_it(num_codes, rank):
    codes = torch.randn(num_codes, rank) @ torch.randn(rank, 5)
    found = jacobian_of_vectors(NearestCode(torch.randn(5), codes))
    torch.testing.assert_close(found, torch.linalg.pinv(codes) @ codes, rtol=1e-8, atol=1e-8)


def test_the_rotation_takes_z_to_its_code_and_no_direction_to_another_than_its_image():
    codes = torch.randn(7, 5)
    fn = NearestCode(torch.randn(5), codes, rotation)
    z, e, found = fn.z, codes[fn.index], jacobian_of_vectors(fn)
    torch.testing.assert_close(found @ z, e)
    scale = e.norm() / z.norm()
    torch.testing.assert_close(found @ found.T, scale**2 * torch.eye(5))  # a rotation, scaled
    assert torch.linalg.det(found) == pytest.approx(float(scale) ** 5)
    across = torch.linalg.qr(torch.stack([z, e], 1), mode="complete").Q[:, 2:]
    torch.testing.assert_close(found @ across, scale * across)  # in the plane of the two alone
    assert (found - torch.eye(5)).norm() > 0.5  # and not straight through


def test_a_rotation_without_a_direction_or_by_half_a_turn_is_finite():
    codes = torch.tensor([[1.0, 0.0], [3.0, 0.0]])
    at_zero = jacobian_of_vectors(NearestCode(torch.zeros(2), torch.tensor([[1.0, 0.0], [0.0, 3.0]]), rotation))
    torch.testing.assert_close(at_zero, torch.eye(2))
    z = torch.tensor([-2.0, 0.0], requires_grad=True)
    (found,) = torch.autograd.grad(rotation(z, codes[0])[0], z)
    torch.testing.assert_close(found, torch.tensor([-0.5, 0.0]))


def test_shapes_particles_and_vmap():
    z, codes = torch.randn(3, 4, 2), torch.randn(6, 2)
    fn = NearestCode(z, codes)
    assert fn.batch_shape == (3, 4) and fn.event_shape == (6,) and fn.sample((2,)).shape == (2, 3, 4, 6)
    wide = fn.to_event(1).expand([5, 3])
    assert wide.batch_shape == (5, 3) and wide.event_shape == (4, 6) and wide.rsample().shape == (5, 3, 4, 6)
    assert torch.equal(wide.log_prob(fn.sample()), torch.zeros(5, 3))
    narrow = NearestCode(z.float(), codes.float())
    assert narrow.sample().dtype is narrow.log_prob(narrow.sample()).dtype is narrow.vectors.dtype is torch.float32
    assert fn.enumerate_support(expand=False).shape == (6, 1, 1, 6) and fn.enumerate_support().shape == (6, 3, 4, 6)
    by_vmap = torch.func.vmap(lambda z, codes: NearestCode(z, codes).rsample(), in_dims=(0, None))(z, codes)
    assert torch.equal(by_vmap, fn.sample())
    of_books = torch.stack([codes, codes.flip(0)])
    both = torch.func.vmap(lambda codes: NearestCode(z, codes).rsample())(of_books)
    assert torch.equal(both, torch.stack([fn.sample(), fn.sample().flip(-1)]))


def test_distances_are_of_single_precision_at_least_where_autocast_halves_it():
    """Codes that bfloat16 cannot tell apart: 8 bits of 1 + k / 1024."""
    codes = 1 + torch.arange(32, dtype=torch.float32)[:, None] / 1024
    z = codes[:, :1] + 1e-5
    with torch.autocast("cpu", torch.bfloat16):
        fn = NearestCode(z, codes)
        assert torch.equal(fn.index, torch.arange(32)) and torch.equal(fn.rsample(), torch.eye(32))
        halved = torch.addmm(codes.square().sum(-1) / 2, z, codes.T, alpha=-1).argmin(-1)
    assert not torch.equal(halved, torch.arange(32))
    assert torch.equal(nearest(z, codes), torch.arange(32))


def test_the_divergence_is_the_length_of_the_code():
    codes = torch.randn(6, 2)
    q, logits = NearestCode(torch.randn(3, 4, 2), codes), torch.randn(4, 6, requires_grad=True)
    p = dist.OneHotCategorical(logits=logits)
    kl = kl_divergence(q, p)
    torch.testing.assert_close(kl, -p.expand([3, 4]).log_prob(q.sample()))
    assert kl.requires_grad
    uniform = dist.OneHotCategorical(logits=torch.zeros(4, 6))
    found = kl_divergence(q.to_event(1).expand([2, 3]), uniform.to_event(1).expand([2, 3]))
    torch.testing.assert_close(found, torch.full((2, 3), 4 * torch.tensor(6.0).log().item()), rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="a code of 6 and a distribution of 5"):
        kl_divergence(q, dist.OneHotCategorical(logits=torch.zeros(5)))


def test_it_is_a_point_without_a_path_that_a_gradient_of_its_density_has():
    fn = NearestCode(torch.randn(3, 2), torch.randn(4, 2)).to_event(1)
    assert is_point(fn) and not has_log_density(fn)
    assert fn.has_rsample and not is_reparameterized(fn)


def test_the_drawn_term_of_a_point_is_exact_so_no_closed_form_replaces_it():
    from pplvm.programs.vq_vae import vq_vae

    program = vq_vae(6, (1, 2), 3, 2, (4,))
    drawn = draw_from_pair(pair_up(program.model, program.guide, (torch.zeros(5, 6),), {}), 3, (torch.zeros(5, 6),), {})
    assert closed_forms(drawn) == {}
    q, p = drawn.guide_trace.nodes["codes"]["fn"], drawn.model_trace.nodes["codes"]["fn"]
    torch.testing.assert_close(kl_divergence(q, p.expand(q.batch_shape)), -drawn.log_p_sites["codes"])


@pytest.mark.parametrize(
    "z, codes, fault",
    [
        (torch.zeros(3, 2), torch.zeros(1, 2), r"K at least 2, got shape \(1, 2\)"),
        (torch.zeros(3, 2), torch.zeros(2, 4, 2), r"codes are \(K, D\)"),
        (torch.zeros(3, 2), torch.zeros(4, 3), "codes have length 3: make them equal"),
        (torch.full((3, 2), torch.nan), torch.zeros(4, 2), "found invalid values"),
        (torch.zeros(3, 2), torch.full((4, 2), torch.nan), "found invalid values"),
    ],
)
def test_what_is_no_codebook(z, codes, fault):
    with pytest.raises(ValueError, match=fault):
        NearestCode(z, codes, validate_args=True)


def test_a_value_that_is_no_one_hot():
    with pytest.raises(ValueError, match="within the support"):
        NearestCode(torch.zeros(3, 2), torch.randn(4, 2), validate_args=True).log_prob(torch.full((3, 4), 0.25))


@pytest.mark.parametrize("path", [straight_through, rotation])
@pytest.mark.parametrize("of_z, of_codes", [("float32", "float64"), ("float64", "float32"), ("bfloat16", "float32")])
def test_vectors_and_codes_of_two_precisions(path, of_z, of_codes):
    z, codes = torch.randn(6, 4), torch.randn(9, 4).to(getattr(torch, of_codes))
    z = z.to(getattr(torch, of_z)).requires_grad_()
    drawn = NearestCode(z, codes, path).rsample()
    assert drawn.dtype is torch.promote_types(z.dtype, codes.dtype)
    assert torch.equal(drawn, nn.functional.one_hot(nearest(z, codes), 9).to(drawn.dtype))
    (found,) = torch.autograd.grad((drawn @ codes.to(drawn.dtype)).sum(), z)
    (as_vectors,) = torch.autograd.grad(NearestCode(z, codes, path).vectors.sum(), z)
    torch.testing.assert_close(found, as_vectors, rtol=1e-2 if z.dtype is torch.bfloat16 else 1e-4, atol=2e-2)


def test_a_density_is_that_of_the_place_of_the_one():
    """In any shape: particles before, a batch that the value lacks, a batch that the distribution lacks."""
    fn = NearestCode(torch.randn(3, 2), torch.randn(5, 2))
    for shape in ((), (3,), (7, 3), (7, 1)):
        v = torch.eye(5)[torch.randint(5, shape)]
        expected = torch.where(v.argmax(-1) == fn.index, 0.0, -torch.inf)
        assert torch.equal(fn.log_prob(v), expected) and fn.log_prob(v).shape == (expected.shape or (3,))
    single = NearestCode(torch.randn(2), torch.randn(5, 2))
    assert single.log_prob(torch.eye(5)).isfinite().sum() == 1
    v = fn.sample((4,))
    assert torch.equal(torch.func.vmap(fn.log_prob)(v), torch.zeros(4, 3))
