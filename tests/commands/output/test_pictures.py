"""The pictures of a trained program: what was moved where stands beside them."""

from types import SimpleNamespace

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import pplvm.commands.output.pictures
from pplvm.commands.output.pictures import PAIRS, Pictures
from pplvm.programs.sigmoid_belief import SigmoidBeliefNet
from pplvm.programs.vae import VAE


class Scales(nn.Module):
    """Two latents of different scales, so that no column of a traversal has one value."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, 16))

    def model(self, x):
        with pyro.plate("batch", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), torch.tensor([1.0, 20.0])).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=z @ self.weight).to_event(1), obs=x)

    def guide(self, x):
        with pyro.plate("batch", len(x), dim=-1):
            pyro.sample("z", dist.Normal(x[..., :2], 1.0).to_event(1))


@pytest.fixture
def saved(monkeypatch, tmp_path):
    """The grids of a program by file: shape and labels."""

    def draw(program, count=2 * PAIRS, labels=None):
        grids = {}

        def save(images, path, rows=(), column_labels=(), cell_labels=()):
            grids[path.stem] = SimpleNamespace(
                shape=images.shape[:2], rows=list(rows), columns=list(column_labels), cells=cell_labels
            )
            return path

        monkeypatch.setattr(pplvm.commands.output.pictures, "save_grid", save)
        x = (torch.rand(count, 16) > 0.5).to(torch.get_default_dtype())
        y = torch.arange(count) % 3
        given = {} if labels is None else {"classes": range(labels)}
        rows = (lambda n: x[:n]) if labels is None else (lambda n: (x[:n], y[:n]))
        pictures = Pictures(SimpleNamespace(program=program, rows=rows), tmp_path, seed=0)
        pictures.draw(lambda: SimpleNamespace(mean=x, draw=x), **given)
        return grids, pictures

    return draw


def test_a_traversal_tells_the_values_above_its_columns_and_the_unit_beside_its_rows(saved):
    grids, pictures = saved(VAE(16, latent_size=3))
    grid = grids["traversal-z"]
    assert grid.rows == ["z[0]", "z[1]", "z[2]"]
    assert grid.columns == ["-3", "-2", "-1", "0", "1", "2", "3"] and not grid.cells
    assert any("the value above the column" in title for title in pictures.files)


def test_the_states_of_a_discrete_unit_are_told(saved):
    grids, _ = saved(SigmoidBeliefNet(16, latent_sizes=(2,)))
    (grid,) = (grid for name, grid in grids.items() if name.startswith("traversal"))
    assert grid.columns == ["0", "1"]


def test_values_that_differ_from_row_to_row_stand_above_each_image(saved):
    grids, pictures = saved(Scales())
    grid = grids["traversal-z"]
    assert grid.cells == [["-3", "-2", "-1", "0", "1", "2", "3"], ["-60", "-40", "-20", "0", "20", "40", "60"]]
    assert not grid.columns and any("the value above the image" in title for title in pictures.files)


@pytest.mark.parametrize("count", [2 * PAIRS, 5])
def test_an_interpolation_tells_from_where_to_where_and_how_far(saved, count):
    grids, _ = saved(VAE(16, latent_size=3), count)
    for how in ("linear", "spherical"):
        grid = grids[f"interpolation-{how}"]
        assert grid.columns == ["0", "0.125", "0.25", "0.375", "0.5", "0.625", "0.75", "0.875", "1"]
        assert grid.rows[:2] == (["0 to 6", "1 to 7"] if count == 12 else ["0 to 4", "1 to 3"])
        assert len(grid.rows) == grid.shape[0]


class Labelled(Scales):
    """The same with a label, that model and guide read."""

    def model(self, x, y):
        super().model(x + 0 * y.unsqueeze(1))

    def guide(self, x, y):
        super().guide(x + 0 * y.unsqueeze(1))


def test_samples_of_classes_have_a_column_each(saved):
    grids, pictures = saved(Labelled(), labels=3)
    assert grids["samples"].columns == ["class 0", "class 1", "class 2"] and grids["samples"].shape == (4, 3)
    assert {"reconstructions", "interpolation-linear", "traversal-z"} <= set(grids) and not pictures.left_out
    _, pictures = saved(Labelled(), count=2, labels=3)
    assert any("2 samples make no row of 3 classes" in sentence for sentence in pictures.left_out)
