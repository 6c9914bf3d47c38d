"""Archives that name their splits and labels: honoured by name or by key, refused where they can mean two things."""

import numpy as np
import pytest

from pplvm.data.files import from_array

TRAIN = np.arange(120, dtype=np.uint8).reshape(40, 3)
VALID, TEST = TRAIN[:7] + 120, TRAIN[:9] + 200
LABELS = np.arange(40) % 5
SPLITS = ("train", "valid", "test")


def splits_of(path, **keys):
    return {split: from_array(path, split=split, **keys) for split in SPLITS}


SPELLINGS = {
    "Keras": ("x_train", "y_train", "x_test", "y_test"),
    "capital": ("X_train", "y_train", "X_test", "y_test"),
    "bare": ("train", "train_labels", "test", "test_labels"),
    "images": ("train_images", "train_labels", "test_images", "test_labels"),
    "split first": ("train_x", "train_y", "test_x", "test_y"),
    "split last": ("images_training", "targets_training", "images_testing", "targets_testing"),
}


@pytest.mark.parametrize("saved", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_named_splits_and_labels_are_found_without_a_key(tmp_path, saved, spelling):
    arrays = dict(zip(SPELLINGS[spelling], (TRAIN, LABELS, TEST, LABELS[:9]), strict=True))
    saved(tmp_path / "mine.npz", **arrays)
    found = splits_of(tmp_path / "mine.npz")
    assert np.array_equal(found["test"].images, TEST) and found["test"].labels.tolist() == LABELS[:9].tolist()
    trained = np.concatenate([found["train"].images, found["valid"].images])
    assert [len(found[split]) for split in SPLITS] == [36, 4, 9]
    assert sorted(map(bytes, trained)) == sorted(map(bytes, TRAIN))
    assert (found["train"].labels.numpy() == found["train"].images[:, 0].numpy() // 3 % 5).all()
    assert all(name in found["train"].remarks[0] for name in arrays)


@pytest.mark.parametrize("word", ["valid", "val", "validation", "dev"])
def test_a_named_validation_set_is_found(tmp_path, word):
    np.savez(tmp_path / "mine.npz", **{"x_train": TRAIN, f"x_{word}": VALID, "x_test": TEST})
    found = splits_of(tmp_path / "mine.npz")
    assert [len(found[split]) for split in SPLITS] == [40, 7, 9] and np.array_equal(found["valid"].images, VALID)


def test_keys_name_the_splits_of_other_names(tmp_path):
    np.savez(tmp_path / "mine.npz", a=TRAIN, b=TEST, c=VALID, d=np.zeros((3, 8)))
    keys = {"key": "a", "test_key": "b", "valid_key": "c"}
    assert [len(data) for data in splits_of(tmp_path / "mine.npz", **keys).values()] == [40, 7, 9]
    assert len(from_array(tmp_path / "mine.npz", "a", "train", test_key="b")) == 36


def test_a_key_alone_is_that_array_split_by_the_rule_for_all(tmp_path):
    np.savez(tmp_path / "mine.npz", x=TRAIN, other=TEST, x_test=TEST)
    assert [len(data) for data in splits_of(tmp_path / "mine.npz", key="x", levels=256).values()] == [32, 4, 4]
    assert len(from_array(tmp_path / "mine.npz", "x_test", "all")) == 9


def test_a_key_that_says_train_brings_the_test_set_of_its_name(tmp_path):
    np.savez(tmp_path / "mine.npz", x_train=TRAIN, x_test=TEST, z_train=VALID, z_test=TRAIN)
    assert np.array_equal(from_array(tmp_path / "mine.npz", "x_train", "test").images, TEST)
    assert np.array_equal(from_array(tmp_path / "mine.npz", "z_train", "test").images, TRAIN)


def test_labels_beside_a_single_array(tmp_path):
    for name in ("y", "labels", "target"):
        np.savez(tmp_path / "mine.npz", **{"x": TRAIN, name: LABELS[:, None]})
        data = from_array(tmp_path / "mine.npz", levels=256)
        assert len(data) == 32 and (data.labels.numpy() == data.images[:, 0].numpy() // 3 % 5).all()
    for labels in (LABELS[:9], LABELS + 0.5, np.array(["a"] * 40)):
        np.savez(tmp_path / "mine.npz", x=TRAIN, y=labels, number=3)
        assert from_array(tmp_path / "mine.npz", levels=256).labels is None


def test_training_data_alone_are_split_by_the_rule_for_all(tmp_path):
    np.savez(tmp_path / "mine.npz", x_train=TRAIN, y_train=LABELS)
    assert [len(data) for data in splits_of(tmp_path / "mine.npz", levels=256).values()] == [32, 4, 4]


BOTH = {"x_train": TRAIN, "x_test": TEST}
SHAPES = r"x_train \(40, 3\), x_test \(9, 3\)"
REFUSED = {
    "another key": (BOTH, {"key": "x"}, f"mine.npz has no array 'x': its keys are {SHAPES}"),
    "another test key": (BOTH, {"key": "x_train", "test_key": "t"}, f"has no array 't': its keys are {SHAPES}"),
    "a test key alone": (BOTH, {"test_key": "x_test"}, "a key of test data needs the key of the training data"),
    "one key twice": (BOTH, {"key": "x_test", "test_key": "x_test"}, "one key is given for two splits, train and test"),
    "no training data": (
        {"x_valid": VALID, "x_test": TEST},
        {},
        r"has x_valid, x_test and no training data beside it: its keys are x_valid \(7, 3\), x_test",
    ),
    "two data sets": (BOTH | {"z_train": TRAIN}, {}, "mine.npz needs a key: its keys are x_train"),
    "a loose array": (BOTH | {"noise": TRAIN}, {}, "mine.npz needs a key: its keys are x_train"),
    "two test sets": (BOTH | {"X_test": TEST}, {}, "has two arrays for test, x_test and X_test"),
    "other shapes": ({"x_train": TRAIN, "x_test": TEST[:, :2]}, {}, "have shape .2,., but those of train .3,."),
    "words": ({"a": np.array(["one"]), "b": np.array(["two"])}, {}, r"holds no numbers: its keys are a \(1,\) of <U3"),
    "a number": ({"a": np.float64(3)}, {}, "mine.npz holds a single number: save an array with a row for each datum"),
    "words in one": (BOTH | {"w": np.array(["one"])}, {"key": "w"}, "cannot be read as numbers .* .it holds <U3.*"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_can_mean_two_things_is_refused(tmp_path, name):
    arrays, keys, words = REFUSED[name]
    np.savez(tmp_path / "mine.npz", **arrays)
    with pytest.raises(ValueError, match=words):
        from_array(tmp_path / "mine.npz", **keys)


def test_many_arrays_are_not_all_listed(tmp_path):
    np.savez(tmp_path / "mine.npz", **{f"image_{i}": TRAIN for i in range(100)})
    with pytest.raises(ValueError, match=r"needs a key: its keys are image_0 .* and 88 more$"):
        from_array(tmp_path / "mine.npz")


def test_a_file_of_one_array_has_no_keys(tmp_path):
    np.save(tmp_path / "mine.npy", TRAIN)
    with pytest.raises(ValueError, match="mine.npy has no array 'x_test': its keys are none"):
        from_array(tmp_path / "mine.npy", test_key="x_test")


@pytest.mark.parametrize("names", [("y_train",), ("y_train", "y_test")])
def test_labels_are_no_data_unless_a_key_says_so(tmp_path, names):
    hot = {name: np.eye(5)[LABELS] for name in names}
    np.savez(tmp_path / "mine.npz", about=np.array("words"), **hot)
    with pytest.raises(ValueError, match="needs a key: its keys are .*y_train"):
        from_array(tmp_path / "mine.npz")
    assert from_array(tmp_path / "mine.npz", "y_train").spec.shape == (5,)
