"""Items of every common kind: tensors, arrays, images, tuples and dictionaries of them, copied one by one."""

import tracemalloc

import numpy as np
import pytest
import torch
from PIL import Image

from pplvm.data import dataset_items
from pplvm.data.dataset_items import read_items

ROWS = np.arange(60, dtype=np.uint8).reshape(20, 3)
GREY = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3))


@pytest.mark.parametrize(
    ("made", "dtype"),
    [
        (lambda row: torch.from_numpy(row), np.uint8),
        (lambda row: row, np.uint8),
        (lambda row: row.tolist(), np.int64),
        (lambda row: torch.from_numpy(row).double(), np.float32),
        (lambda row: torch.from_numpy(row).bfloat16().requires_grad_(), np.float32),
        (lambda row: row.astype(">f8"), np.float32),
        (lambda row: {"anything": row}, np.uint8),
        (lambda row: {"anything": row.tolist(), "name": "a"}, np.int64),
    ],
)
def test_data_of_every_kind(made, dtype):
    found = read_items([made(row) for row in ROWS], "mine")
    assert np.array_equal(found.rows, ROWS) and found.rows.dtype == dtype and found.labels is None


@pytest.mark.parametrize(("mode", "shape"), [("L", (2, 3)), ("1", (2, 3)), ("RGB", (3, 2, 3)), ("RGBA", (3, 2, 3))])
def test_pil_images_are_read_as_image_files_are(mode, shape):
    found = read_items([{"img": GREY.convert(mode), "label": 1}] * 4, "mine")
    assert found.rows.shape == (4, *shape) and found.rows.dtype == np.uint8 and found.labels == [1] * 4
    if mode == "L":
        assert np.array_equal(found.rows[0], np.asarray(GREY))


@pytest.mark.parametrize("label", [3, np.int64(3), torch.tensor(3), np.array(3), True])
@pytest.mark.parametrize("made", [lambda x, y: (x, y), lambda x, y: [x, y], lambda x, y: {"x": x, "Target": y}])
def test_integers_are_labels(label, made):
    assert read_items([made(row, label) for row in ROWS], "mine").labels == [int(label)] * 20


@pytest.mark.parametrize("label", ["cat", 0.5, None, torch.tensor(0.5), torch.ones(3)])
def test_other_things_are_none(label):
    for made in (lambda x, y: (x, y), lambda x, y: {"x": x, "label": y}):
        assert read_items([made(row, label) for row in ROWS], "mine").labels is None
    assert read_items([(ROWS[0], 3), (ROWS[1], None)], "mine").labels is None
    assert read_items([(ROWS[0], 3), (ROWS[1],)], "mine").labels is None


@pytest.mark.parametrize("name", ["image", "X", "pixel_values", "data", "img"])
def test_the_entry_is_told_by_its_name(name):
    items = [{"mask": row[:2], name: row, "id": 7, "box": [1, 2, 3]} for row in ROWS]
    assert np.array_equal(read_items(items, "mine").rows, ROWS)
    assert np.array_equal(read_items(items, "mine", "mask").rows, ROWS[:, :2])
    assert np.array_equal(read_items(items, "mine", "box").rows, [[1, 2, 3]] * 20)


def test_a_label_in_a_tensor_is_not_the_datum():
    items = [{"label": torch.tensor([2]), "row": torch.from_numpy(row)} for row in ROWS]
    assert np.array_equal(read_items(items, "mine").rows, ROWS)


class Ragged:
    """A length that promises more than there is room for."""

    def __len__(self):
        return 10**12

    def __getitem__(self, i):
        return ROWS[0]


REFUSED = {
    "words": (["one"], None, "item 0 of mine begins with a str: return a tensor, an array or a PIL image"),
    "later words": ([ROWS[0], "two"], None, "item 1 of mine begins with a str"),
    "numbers": ([(3, 4)], None, "item 0 of mine begins with an int"),
    "nothing": ([()], None, "item 0 of mine begins with a tuple"),
    "shapes": (
        [ROWS[0], ROWS[0], ROWS[0][:2]],
        None,
        r"item 2 of mine has shape \(2,\), but item 0 of mine has \(3,\)",
    ),
    "types": (
        [ROWS[0], ROWS[0] * 0.5],
        None,
        "item 1 of mine holds float32, but item 0 of mine uint8: give all one ty",
    ),
    "two entries": (
        [{"a": ROWS[0], "b": torch.zeros(2), "label": 3}],
        None,
        r"item 0 of mine needs a key for .*: its entries are a \(ndarray \(3,\)\), b \(Tensor \(2,\)\), label \(int\)",
    ),
    "two names": ([{"image": ROWS[0], "data": ROWS[1]}], None, "item 0 of mine needs a key"),
    "no entry": ([{"text": "word"}], None, r"item 0 of mine needs a key .*: its entries are text \(str\)"),
    "another entry": ([{"a": ROWS[0]}], "b", r"item 0 of mine has no entry 'b': its entries are a \(ndarray \(3,\)\)"),
    "an entry of words": ([{"a": "word"}], "a", "item 0 of mine has as 'a' a str: return a tensor"),
    "a later item": (
        [{"a": ROWS[0]}, {"b": ROWS[0]}],
        None,
        "item 1 of mine is not built as item 0 is, .* no entry 'a'",
    ),
    "a later tuple": ([{"a": ROWS[0]}, ROWS], None, "item 1 of mine is not built as item 0 is"),
    "a key of no dictionary": ([ROWS[0]], "image", "item 0 of mine is a ndarray .3,., which has no entry 'image'"),
    "sixteen bits": ([Image.new("I;16", (2, 2))], None, "item 0 of mine cannot be read .its mode is I;16, and only"),
    "too many": (Ragged(), None, r"mine has 1,000,000,000,000 items of shape \(3,\), more than fit in 32 GiB"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_items_are_refused(name):
    items, key, words = REFUSED[name]
    with pytest.raises(ValueError, match=words):
        read_items(items, "mine", key)


def test_items_that_are_made_when_asked_for_are_held_once():
    class Made:
        def __len__(self):
            return 400

        def __getitem__(self, i):
            return np.full(10_000, i / 400, np.float64)

    tracemalloc.start()
    rows = read_items(Made(), "mine").rows
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (
        rows.nbytes == 16_000_000 and peak < 1.1 * rows.nbytes and (rows[:, 0] * 400).round().tolist() == [*range(400)]
    )


def test_the_most_is_what_the_constant_says(monkeypatch):
    monkeypatch.setattr(dataset_items, "MOST_BYTES", 59)
    with pytest.raises(ValueError, match="more than fit in"):
        read_items(ROWS, "mine")
    assert len(read_items(ROWS[:19], "mine").rows) == 19


@pytest.mark.parametrize("label", [np.eye(3)[1], np.array([2]), [0, 1]])
def test_labels_are_no_data_even_where_nothing_else_can_be(label):
    with pytest.raises(ValueError, match="item 0 of mine needs a key for the entry that is the datum: .*label"):
        read_items([{"path": "a.png", "label": label}] * 4, "mine")
    assert len(read_items([{"path": "a.png", "label": label}] * 4, "mine", "label").rows) == 4


def test_an_item_that_cannot_be_had_is_named():
    class Short:
        def __len__(self):
            return 40

        def __getitem__(self, number):
            return [np.zeros(2)] * 30 if number < 0 else [np.ones(2)][number // 30]

    with pytest.raises(ValueError, match=r"item 30 of toy cannot be read \(IndexError: list index out of range\)"):
        read_items(Short(), "toy")
