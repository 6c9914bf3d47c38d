"""Batches with conditions: each datum keeps its own label and mask, whoever draws it and in whatever order."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from pplvm.data.arrays import from_rows
from pplvm.data.batches import batches, fixed_batch
from pplvm.data.binarization import binarize
from pplvm.data.conditions import as_condition, number_of_classes, with_known_labels
from pplvm.data.epochs import Epochs
from pplvm.data.files import from_array, from_folder, from_table
from pplvm.data.image_data import ImageData
from pplvm.data.images import digits

NUMBERS = torch.arange(23)


def marked():
    """23 data whose value is their number and whose label is its rest by 5."""
    return ImageData(NUMBERS.to(torch.uint8).reshape(23, 1, 1), "marked", 256, NUMBERS % 5)


def require_own(x, y):
    numbers = (x.flatten() * 255).round().long()
    assert torch.equal(numbers % 5, y) and y.dtype == torch.int64
    return numbers.tolist()


def test_every_datum_comes_with_its_own_label():
    data = marked().conditioned("labels")
    assert sorted(sum((require_own(*batch) for batch in batches(data, 5, seed=3)), [])) == list(range(23))
    epochs = Epochs(data, 6, seed=1, part=(1, 2))
    assert len({tuple(require_own(*next(epochs))) for _ in range(9)}) == 9
    require_own(*fixed_batch(data, 5, number=2))
    require_own(*data.batch(torch.tensor([4, 22, 4]), epoch=7))
    x, y = data[22]
    assert x.shape == (1, 1) and int(y) == 2
    for x, y in DataLoader(data, 8):
        require_own(x, y)


def test_x_is_what_it_is_without_conditions():
    data = marked()
    with_labels = data.conditioned("labels")
    pairs = zip(batches(data, 5, seed=2, epoch=1), batches(with_labels, 5, seed=2, epoch=1), strict=True)
    assert all(torch.equal(x, batch[0]) for x, batch in pairs)
    assert torch.is_tensor(data[0]) and torch.is_tensor(next(Epochs(data, 3))) and len(data.batch(NUMBERS)) == 1
    assert torch.is_tensor(with_labels.conditioned()[0]) and torch.equal(with_labels.rows(NUMBERS), data.rows(NUMBERS))
    assert data.conditions == () and data.spec.conditions == ()  # the data that were asked are as they were


def test_a_tuple_is_data_with_conditions():
    x, mask = torch.rand(6, 2), torch.rand(6, 2) > 0.5
    data = ImageData.of((x, NUMBERS[:6].int(), mask))
    drawn, y, seen = next(batches((x, NUMBERS[:6], mask), 6, seed=1))
    assert torch.equal(drawn, x.float()[y]) and torch.equal(seen, mask[y]) and seen.dtype == torch.bool
    assert data.conditions[0].dtype == torch.int64
    with pytest.raises(ValueError, match="as many rows"):
        Epochs((x, mask[:5]), 2)


def test_what_is_made_of_data_keeps_their_conditions():
    data = digits("valid").conditioned("labels")
    for made in (binarize(data, "dynamic"), binarize(data, "static"), data.with_channel(), data.to("cpu")):
        assert torch.equal(made.conditions[0], data.labels) and made.spec.conditions == ("labels",)
        assert made.spec.num_classes == 10 and torch.equal(made[7][1], data.labels[7])
    assert data.to("meta").conditions[0].device.type == "meta"


def test_conditions_are_told():
    told = digits().with_known_labels(100).conditioned("labels").description()
    assert told.endswith("given labels of 10 classes, 1,197 of 1,297 not known")
    data = marked().conditioned("labels", torch.ones(23, 4))
    assert data.description().endswith("given labels of 5 classes, condition 2 of shape (4,)")
    assert "given" not in marked().description()


@pytest.mark.parametrize(
    ("labels", "asked", "words"),
    [
        (None, "labels", "data set 'toy' has no labels to condition on"),
        (NUMBERS % 5, "mask", "data set 'toy' has no 'mask' .* it has labels"),
        (NUMBERS - 3, "labels", "labels of data set 'toy' begin at -3: number classes from 0"),
        (NUMBERS.float(), "labels", "labels of data set 'toy' are torch.float32"),
        (None, torch.zeros(4), r"condition 1 of data set 'toy' has shape \(4,\), and there are 23 data"),
        (None, torch.full((23,), torch.nan), "condition 1 of data set 'toy' holds NaN or infinity in row 0"),
    ],
)
def test_conditions_that_are_not_there_are_refused(labels, asked, words):
    with pytest.raises(ValueError, match=words):
        ImageData(torch.rand(23, 2), "toy", None, labels).conditioned(asked)


def test_types_of_conditions():
    for given, dtype in ((torch.uint8, torch.int64), (torch.bool, torch.bool), (torch.float64, torch.float32)):
        assert as_condition(torch.ones(3).to(given), 3, "mask", "toy").dtype == dtype


def test_classes_are_counted_where_labels_number_them():
    assert number_of_classes(torch.tensor([0, 2]), None, torch.tensor([-1, 6])) == 7
    assert number_of_classes(None) is number_of_classes(torch.zeros(3)) is number_of_classes(torch.tensor([-1])) is None
    assert number_of_classes(torch.tensor([0, 2**40])) is number_of_classes(torch.tensor([-2, 3])) is None


@pytest.mark.parametrize("count", [5, 7, 18, 23])
def test_known_labels_are_balanced_and_of_the_seed(count):
    labels = NUMBERS % 5
    found = with_known_labels(labels, count, seed=4)
    kept = found >= 0
    assert int(kept.sum()) == count and torch.equal(found[kept], labels[kept]) and set(found[~kept].tolist()) <= {-1}
    per_class = found[kept].bincount(minlength=5)
    assert int(per_class.max() - per_class.min()) <= 1
    assert torch.equal(found, with_known_labels(labels, count, seed=4))
    assert count == 23 or not torch.equal(found, with_known_labels(labels, count, seed=5))


def test_a_small_class_gives_all_that_it_has():
    labels = torch.tensor([0] * 10 + [1] * 2 + [-1] * 5)
    found = with_known_labels(labels, 8)
    assert (found == 1).sum() == 2 and (found == 0).sum() == 6 and (found[12:] == -1).all()


def test_known_labels_are_spread_over_the_first_epoch():
    data = digits().with_known_labels(100, seed=3).conditioned("labels")
    known = torch.tensor([int((y >= 0).sum()) for _, y in batches(data, 100, seed=3)])
    assert known[:6].sum() < 75  # 46 of them are expected, with a standard deviation of 5


@pytest.mark.parametrize(
    ("count", "words"),
    [(4, "4 known labels leave some of 5 classes without any: 5 are the fewest"), (24, "give at most 23")],
)
def test_known_labels_that_make_no_sense_are_refused(count, words):
    with pytest.raises(ValueError, match=words):
        marked().with_known_labels(count)


@pytest.mark.parametrize("shape", [(4, 5), (1, 4, 5), (3, 4, 5), (4, 5, 3), (4, 5, 1)])
def test_images_with_a_channel(shape, tmp_path):
    rows = np.random.default_rng(0).integers(0, 256, (20, *shape), dtype=np.uint8)
    np.save(tmp_path / "mine.npy", rows)
    if len(shape) == 2:
        expected = rows[:, None]
    else:
        expected = rows if shape[0] in (1, 3) else rows.transpose(0, 3, 1, 2)
    in_memory = ImageData(torch.from_numpy(rows), "mine", 256)
    for data in (in_memory, from_rows(np.load(tmp_path / "mine.npy", mmap_mode="r"), "mine", "all")):
        found = data.with_channel()
        assert found.spec.shape == expected.shape[1:] == found.with_channel().spec.shape
        assert torch.equal(found.rows(NUMBERS[:20]), torch.from_numpy(expected).float() / 255)
        torch.testing.assert_close(found.mean(), torch.from_numpy(expected).double().mean(0).flatten().float() / 255)
        assert data.spec.shape == shape and (found[3].flatten() == found.rows(NUMBERS[3:4]).flatten()).all()


def test_what_is_no_image_has_no_channel():
    with pytest.raises(ValueError, match=r"data set 'toy' holds data of shape \(7,\), and images are \(H, W\)"):
        ImageData(torch.rand(3, 7), "toy", None).with_channel()


def archive(path, **more):
    """70 data whose first value is their number, with labels, masks and colours of the same number."""
    number = np.arange(70)
    rows = {"x": number[:, None] * [1.5, 1], "y": number % 7, "mask": number % 2 == 0, "hue": number[:, None] / 7}
    splits = {"train": slice(0, 50), "test": slice(50, 70)}
    np.savez(path, **{f"{name}_{split}": rows[name][part] for name in rows for split, part in splits.items()}, **more)


def test_arrays_of_one_row_a_datum_may_be_conditions(tmp_path):
    archive(tmp_path / "mine.npz", words=np.array(["a"] * 50), few=np.arange(49), x_extra=np.zeros((50, 2)))
    for split, size in (("train", 45), ("valid", 5), ("test", 20)):
        data = from_array(tmp_path / "mine.npz", "x_train", split)
        assert set(data.arrays) == {"mask", "hue"} and data.spec.num_classes == 7
        x, y, hue, mask = data.conditioned("labels", "hue", "mask").batch(torch.arange(size))
        number = x[:, 1].long()
        assert torch.equal(y, number % 7) and torch.equal(mask, number % 2 == 0) and mask.dtype == torch.bool
        torch.testing.assert_close(hue, number.float()[:, None] / 7, check_dtype=False)
        with pytest.raises(ValueError, match=r"has no 'colour' .*: it has labels, (hue, mask|mask, hue)"):
            data.conditioned("labels", "colour")


def test_arrays_of_files_in_a_folder_and_of_one_set_may_be_conditions(tmp_path):
    number = np.arange(40)
    np.savez(tmp_path / "mine.npz", x=number[:, None] * [1.5, 1], Seen=number % 2 == 0, y=number % 3)
    data = from_array(tmp_path / "mine.npz", "x", "test").conditioned("Seen")
    for name, rows in (("x", number[:, None] * [1.5, 1]), ("seen", number % 2 == 0), ("y", number % 3)):
        np.save(tmp_path / f"{name}_train.npy", rows[:30])
        np.save(tmp_path / f"{name}_test.npy", rows[30:])
    for found in (data, from_folder(tmp_path, "test", key="x_train").conditioned("seen")):
        x, seen = found.batch(torch.arange(len(found)))
        assert torch.equal(seen, x[:, 1].long() % 2 == 0)


def test_classes_are_those_of_all_splits(tmp_path):
    np.savez(tmp_path / "mine.npz", x_train=np.random.rand(30, 2), y_train=np.arange(30) % 3,
             x_test=np.random.rand(9, 2), y_test=np.arange(9))  # fmt: skip
    assert {from_array(tmp_path / "mine.npz", split=s).spec.num_classes for s in ("train", "valid", "test")} == {9}
    np.savez(tmp_path / "half.npz", x_train=np.random.rand(30, 2), y_train=np.arange(30) % 3, x_test=np.ones((9, 2)))
    assert from_array(tmp_path / "half.npz", split="test").spec.num_classes == 3
    assert {digits(split).spec.num_classes for split in ("train", "valid", "test")} == {10}


@pytest.mark.parametrize(
    ("labels", "known"),
    [
        (np.arange(40.0) % 3, 40),
        (np.where(np.arange(40) < 10, np.nan, np.arange(40) % 3)[:, None], 30),
        (np.arange(40) % 3 == 0, 40),
    ],
)
def test_whole_numbers_of_any_type_are_labels(labels, known, tmp_path):
    np.savez(tmp_path / "mine.npz", x=np.random.rand(40, 2), y=labels)
    data = from_array(tmp_path / "mine.npz", "x", "all").conditioned("labels")
    expected = np.nan_to_num(labels.astype(float), nan=-1).reshape(-1)
    assert (data.conditions[0].numpy() == expected).all() and (data.conditions[0] >= 0).sum() == known


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"y": np.array(["a"] * 40)}, "y holds words: number the classes from 0"),
        ({"y": np.zeros(39, int)}, r"y has shape \(39,\), and x \(40, 2\): give one label a datum"),
        ({"y": np.eye(40)[:, :5]}, r"y has shape \(40, 5\): if its rows are one-hot, save y.argmax\(1\)"),
        ({"y": np.arange(40) + 0.5}, "y holds numbers that are not whole: number the classes from 0"),
        ({"y": np.full(40, np.inf)}, "y holds numbers that are not whole"),
        ({"y": np.zeros(40, int), "label": np.zeros(40, int)}, "y and label may be labels: leave one in"),
        ({"z": np.zeros(40, int)}, "use data that have, or leave them out"),
    ],
)
def test_what_is_called_labels_and_is_none_is_named(arrays, words, tmp_path):
    np.savez(tmp_path / "mine.npz", x=np.random.rand(40, 2), **arrays)
    data = from_array(tmp_path / "mine.npz", "x")
    assert data.labels is None
    for each in (data, binarize(data, "dynamic")):
        with pytest.raises(ValueError, match=f"data set 'mine.npz' has no labels to condition on: {words}"):
            each.conditioned("labels")


@pytest.mark.parametrize(
    ("column", "numbers"), [("0,2,,1,-1", [0, 2, -1, 1, -1]), ("cat,,ant,-1,cat", [1, -1, 0, -1, 1])]
)
def test_blank_labels_of_a_table_are_not_known(column, numbers, tmp_path):
    rows = [f"{i},{label},{i / 2}" for i, label in enumerate(column.split(","))]
    (tmp_path / "mine.csv").write_text("\n".join(["p,label,q", *rows]))
    data = from_table(tmp_path / "mine.csv", "all").conditioned("labels")
    assert data.conditions[0].tolist() == numbers and data.spec.num_classes == max(numbers) + 1


def test_fractions_with_blanks_are_no_labels(tmp_path):
    (tmp_path / "mine.csv").write_text("p,label\n1,0.5\n2,\n3,0\n")
    with pytest.raises(ValueError, match="row 1 .* has no value in column 'label'"):
        from_table(tmp_path / "mine.csv", "all")


def test_classes_that_begin_at_one_are_told():
    told = ImageData(torch.rand(3, 2), "toy", None, torch.tensor([1, -1, 3])).conditioned("labels").description()
    assert told.endswith("labels of 4 classes (none below 1: classes count from 0), 1 of 3 not known")


def test_a_condition_is_a_name_or_a_tensor():
    with pytest.raises(TypeError, match="condition 1 is a ndarray: give a name, as 'labels', or a tensor"):
        digits("test").conditioned(np.zeros(300))  # type: ignore[arg-type]
