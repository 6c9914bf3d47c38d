"""Networks of two grids: what each output sees, leading dimensions, grids that cannot be."""

import pytest
import torch

from pplvm.networks.two_levels import CodesAbove, TwoLevelDecoder, TwoLevelEncoder, TwoLevelRefinement, halvings

SIZES = {"grid": (4, 4), "top_grid": (2, 2), "top_size": 3, "channels": 8}


@pytest.mark.parametrize(("shape", "grid", "top_grid"), [((3, 32, 32), (8, 8), (4, 4)), ((1, 28, 28), (7, 7), (2, 2))])
def test_shapes_of_images_in_use(shape, grid, top_grid):
    sizes = {"grid": grid, "top_grid": top_grid, "top_size": 3, "channels": 8}
    features, top = TwoLevelEncoder(shape, **sizes)(torch.zeros(5, *shape))
    assert top.shape == (5, top_grid[0] * top_grid[1], 3) and features.shape == (5, 8, *grid)
    bottom = TwoLevelRefinement(code_size=2, **sizes)(features, top)
    assert bottom.shape == (5, grid[0] * grid[1], 2)
    assert TwoLevelDecoder((7, *shape[1:]), code_size=2, **sizes)(top, bottom).shape == (5, 7, *shape[1:])


def test_leading_dimensions_are_rows():
    refine, decode = TwoLevelRefinement(code_size=2, **SIZES), TwoLevelDecoder((1, 8, 8), code_size=2, **SIZES)
    features, top = torch.randn(5, 8, 4, 4), torch.randn(6, 5, 4, 3)
    bottom = refine(features, top)
    assert bottom.shape == (6, 5, 16, 2)
    torch.testing.assert_close(bottom[3], refine(features, top[3]))
    torch.testing.assert_close(decode(top, bottom)[3, 2], decode(top[3, 2], bottom[3, 2]))
    above = CodesAbove(3, (4, 4), (2, 2), channels=8)
    torch.testing.assert_close(above(top)[3, 2], above(top[3, 2]))


def test_positions_are_the_pixels_of_their_place():
    """The first position sees the upper left corner and, of one convolution a halving, not the lower right one."""
    torch.manual_seed(0)
    encoder = TwoLevelEncoder((1, 16, 16), (8, 8), (4, 4), top_size=2, channels=8, num_blocks=0)
    slopes = torch.autograd.functional.jacobian(lambda x: encoder(x)[1], torch.randn(1, 1, 16, 16)).abs()
    seen = slopes.sum((0, 2, 3, 4))  # (N, 16, 16)
    assert seen[0, :4, :4].gt(0).all() and not seen[0, 8:].any() and not seen[0, :, 8:].any()
    assert seen[3, :3, 12:].gt(0).all() and not seen[3, :, :8].any()
    assert seen[12, 12:, :3].gt(0).all() and not seen[12, :8].any()


def test_images_may_be_flat():
    encoder, x = TwoLevelEncoder((1, 8, 8), **SIZES), torch.rand(3, 1, 8, 8)
    torch.testing.assert_close(encoder(x)[1], encoder(x.flatten(1))[1])


def test_grids_are_halvings():
    assert halvings((8, 8), (1, 1), "grid: an image") == [(8, 8), (4, 4), (2, 2), (1, 1)]
    assert halvings((2, 3), (1, 1), "grid: an image") == [(2, 3), (1, 2), (1, 1)]
    for grid in ((3, 3), (8, 8), (16, 16), (0, 0)):
        with pytest.raises(ValueError, match="of 8x8 is halved to one of the grids 4x4, 2x2, 1x1, and"):
            halvings((8, 8), grid, "grid: an image")
    with pytest.raises(ValueError, match="of the grids none"):
        halvings((1, 1), (1, 1), "top_grid: the grid")
