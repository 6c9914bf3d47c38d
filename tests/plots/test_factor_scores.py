"""Latents against factors as a map, and scores against beta: every number is drawn."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from pplvm.plots.factor_scores import save_factor_map, save_scores_by_beta


@pytest.fixture
def drawn(monkeypatch):
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **kind: figures.append(figure))
    return figures


def test_a_map_has_a_cell_for_each_latent_and_factor(drawn):
    save_factor_map(
        np.eye(4)[:, :3], np.full((4, 3), 0.25), ("shape", "x", "y"), [f"z[{j}]" for j in range(4)], "map.png"
    )
    left, right = drawn[0].axes
    assert [text.get_text() for text in left.texts[:5]] == ["1.00", ".00", ".00", ".00", "1.00"]
    assert {text.get_text() for text in right.texts} == {".25"}
    assert [tick.get_text() for tick in left.get_xticklabels()] == ["shape", "x", "y"]
    assert [tick.get_text() for tick in left.get_yticklabels()] == ["z[0]", "z[1]", "z[2]", "z[3]"]


def test_a_point_a_seed_and_a_line_through_the_means(drawn):
    save_scores_by_beta({"MIG": {4.0: [0.2, 0.4], 1.0: [0.1]}}, "scores.png")
    (ax,) = drawn[0].axes
    mean, *points = ax.lines
    assert mean.get_xdata().tolist() == [1, 4] and mean.get_ydata().tolist() == pytest.approx([0.1, 0.3])
    assert sorted(y for line in points for y in line.get_ydata()) == [0.1, 0.2, 0.4]
    assert ax.get_xscale() == "log"
    save_scores_by_beta({"MIG": {0.0: [0.2], 1.0: [0.1]}}, "scores.png")
    assert drawn[1].axes[0].get_xscale() == "linear"


def test_files_are_written(tmp_path):
    assert save_factor_map(np.eye(2), np.eye(2), ("a", "b"), ("0", "1"), tmp_path / "map.png").stat().st_size > 5_000
    assert save_scores_by_beta({"MIG": {1.0: [0.5]}}, tmp_path / "beta.png").stat().st_size > 5_000
