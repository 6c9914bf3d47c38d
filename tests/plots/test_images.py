"""Grids: every pixel where it belongs, no label on another, sensible sizes."""

import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure

from pplvm.plots.images import grid_figure, save_grid

PIXELS = np.random.default_rng(0).random((2, 3, 8, 8)).round()


def pixels(path):
    return matplotlib.image.imread(path)[:, :, :3]


def test_every_pixel_is_a_square_of_dots(tmp_path):
    image = pixels(save_grid(PIXELS, tmp_path / "grid.png"))
    scale, cell = 9, 9 * 8 + 4  # 72 dots for 8 pixels, and a gap
    assert image.shape[0] == 2 * cell - 4 + 20
    for r in range(2):
        for c in range(3):
            top, left = 10 + r * cell, 10 + c * cell
            found = image[top : top + 72, left : left + 72, 0]
            np.testing.assert_array_equal(found, PIXELS[r, c].repeat(scale, 0).repeat(scale, 1))
    assert (image[:, 10 + 72 : 10 + 76] == 1).all(), "the gap between columns is white"


@pytest.fixture
def written(monkeypatch):
    """The figures that are written, drawn."""
    figures = []
    write = Figure.savefig

    def saved(figure, *args, **kwargs):
        write(figure, *args, **kwargs)
        figures.append(figure)

    monkeypatch.setattr(Figure, "savefig", saved)
    return figures


@pytest.mark.parametrize("columns", [3, 20])
@pytest.mark.parametrize("word", ["1.5", "reconstruction", "a label of $many$ words that goes on and on for long"])
def test_labels_keep_out_of_each_others_way(written, tmp_path, columns, word):
    images = np.zeros((4, columns, 8, 8))
    title = "A title that is longer than a small grid is wide, and has to be wrapped"
    names = [f"{word} {c}" for c in range(columns)]
    save_grid(images, tmp_path / "grid.png", [f"{word} {r}" for r in range(4)], names, title)
    (figure,) = written
    boxes = [text.get_window_extent() for text in figure.texts if text.get_text()]
    boxes.append(figure.axes[0].get_window_extent())
    assert len(boxes) >= 4 + columns + 2
    for i, box in enumerate(boxes):
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 + 1, figure.texts[i]
        assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1, figure.texts[i]
        assert not any(box.overlaps(other) for other in boxes[:i])


def test_vectors_are_squares_or_bands(tmp_path):
    square = pixels(save_grid(PIXELS.reshape(2, 3, 64), tmp_path / "square.png"))
    np.testing.assert_array_equal(square, pixels(save_grid(PIXELS, tmp_path / "grid.png")))
    band = pixels(save_grid(np.eye(10)[None, :1], tmp_path / "band.png"))[10:34, 10:90, 0]
    assert (band[:, :8] == 1).all() and (band[:, 8:] == 0).all()


def test_colours_and_a_single_channel(tmp_path):
    red = np.zeros((1, 1, 3, 8, 8))
    red[:, :, 0] = 1
    assert (pixels(save_grid(red, tmp_path / "red.png"))[10:82, 10:82] == [1, 0, 0]).all()
    grey = pixels(save_grid(PIXELS[:, :, None], tmp_path / "grey.png"))
    np.testing.assert_array_equal(grey, pixels(save_grid(PIXELS, tmp_path / "grid.png")))


def test_values_outside_zero_and_one_are_scaled_and_told(written, tmp_path):
    path = save_grid(4 * PIXELS - 1, tmp_path / "wide.png")
    assert "black is -1.00, white is 3.00" in [text.get_text() for text in written[0].texts]
    np.testing.assert_array_equal(pixels(path)[10:82, 10:82, 0], PIXELS[0, 0].repeat(9, 0).repeat(9, 1))
    save_grid(PIXELS, tmp_path / "grid.png")
    save_grid(np.full((1, 1, 8, 8), 7.0), tmp_path / "even.png")
    assert [t.get_text() for t in written[1].texts] == [""]
    clipped = pixels(save_grid(4 * PIXELS - 1, tmp_path / "clipped.png", limits=(0, 2)))
    assert set(np.unique(clipped[10:82, 10:82])) == {0, 1}


def test_large_images_are_not_enlarged_beyond_measure(tmp_path):
    assert pixels(save_grid(np.zeros((1, 60, 64, 64)), tmp_path / "many.png")).shape[1] == 60 * 68 - 4 + 20
    assert pixels(save_grid(np.zeros((1, 60, 28, 28)), tmp_path / "some.png")).shape[1] <= 2400


@pytest.mark.parametrize(
    ("shape", "labels", "told"),
    [
        ((8, 8), {}, r"\(R, C, H, W\).*got \(8, 8\)"),
        ((1, 1, 2, 8, 8), {}, "got"),
        ((0, 3, 8, 8), {}, "none of them zero"),
        ((2, 3, 8, 8), {"row_labels": ["one"]}, "1 row labels for 2 rows"),
        ((2, 3, 8, 8), {"column_labels": ["one"]}, "1 column labels for 3 columns"),
        ((2, 3, 8, 8), {"cell_labels": [["a"] * 3]}, "cell labels must be 2 rows of 3"),
    ],
)
def test_what_is_no_grid_is_refused(tmp_path, shape, labels, told):
    with pytest.raises(ValueError, match=told):
        save_grid(np.zeros(shape), tmp_path / "grid.png", **labels)


def test_what_is_no_number_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not finite"):
        save_grid(np.where(PIXELS > 0, np.nan, PIXELS), tmp_path / "grid.png")


@pytest.mark.parametrize("word", ["3", "-1.25e-05"])
def test_words_above_each_image_stand_over_it_and_touch_nothing(word):
    rows = [[f"{word}{r}{c}" for c in range(5)] for r in range(3)]
    figure = grid_figure(np.zeros((3, 5, 8, 8)), ["z[0]", "z[1]", "z[2]"], cell_labels=rows)
    figure.draw_without_rendering()
    found = {text.get_text(): text.get_window_extent() for text in figure.texts}
    boxes = [found[word] for row in rows for word in row]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    pixels = np.asarray(figure.axes[0].images[0].get_array())  # (height, width, 3), black where an image is
    frame = figure.axes[0].get_window_extent()
    for box in boxes:
        top, bottom = (round(frame.y1 - y) for y in (box.y1, box.y0))
        left, right = (round(x - frame.x0) for x in (box.x0, box.x1))
        assert (pixels[max(top, 0) : bottom, max(left, 0) : right] == 1).all(), "a word lies on an image"
        assert (pixels[bottom + 8, (left + right) // 2] == 0).all(), "the image beneath its word"


def test_a_figure_is_shown_by_a_notebook_and_kept_by_nobody():
    import matplotlib.pyplot as plt

    png = grid_figure(PIXELS)._repr_png_()
    assert png.startswith(b"\x89PNG") and not plt.get_fignums()
