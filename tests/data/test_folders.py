"""Folders that name their splits: no image of test/ is ever trained on, and what is ambiguous is refused."""

import os

import numpy as np
import pytest
from PIL import Image

from pplvm.data.files import from_folder
from pplvm.data.folders import read_folder

DRAW = np.random.default_rng(0)
TRAIN, TEST = DRAW.integers(0, 100, (40, 2, 3), dtype=np.uint8), DRAW.integers(150, 256, (9, 2, 3), dtype=np.uint8)
SPLITS = ("train", "valid", "test")


def save(folder, arrays, name="{:03}.png"):
    folder.mkdir(parents=True, exist_ok=True)
    for i, array in enumerate(arrays):
        Image.fromarray(array).save(folder / name.format(i))


def splits_of(path, **keys):
    return {split: from_folder(path, split, **keys) for split in SPLITS}


@pytest.mark.parametrize("train", ["train", "Training", "TRAIN"])
@pytest.mark.parametrize("test", ["test", "Testing"])
def test_no_image_of_the_test_folder_is_trained_on(tmp_path, train, test):
    save(tmp_path / train, TRAIN)
    save(tmp_path / test, TEST)
    found = splits_of(tmp_path)
    assert [len(found[split]) for split in SPLITS] == [36, 4, 9]
    assert np.array_equal(found["test"].images, TEST)
    assert max(found["train"].images.max(), found["valid"].images.max()) < 100
    assert found["train"].labels is None
    assert found["test"].remarks == (f"{tmp_path.name}: the images are split by their folders, 40 in train, 9 in test",)


@pytest.mark.parametrize("valid", ["valid", "val", "Validation", "dev"])
def test_a_validation_folder_is_honoured(tmp_path, valid):
    save(tmp_path / "train", TRAIN)
    save(tmp_path / "test", TEST)
    save(tmp_path / valid, TRAIN[:5] + 100)
    assert [len(data) for data in splits_of(tmp_path).values()] == [40, 5, 9]


def test_labels_are_the_folders_below_and_numbered_once(tmp_path):
    for name, count in (("dog", 20), ("cat", 15), ("emu", 5)):
        save(tmp_path / "train" / name / "deeper", TRAIN[:count] + ord(name[0]))
    save(tmp_path / "test" / "bird", TEST[:2])
    save(tmp_path / "test" / "emu", TEST[2:])
    found = splits_of(tmp_path)
    assert found["test"].labels.tolist() == [0] * 2 + [3] * 7  # bird, cat, dog, emu
    both = found["train"].labels.tolist() + found["valid"].labels.tolist()
    assert sorted(both) == [1] * 15 + [2] * 20 + [3] * 5
    assert found["test"].remarks[1].endswith("train has no image of bird, a class of other splits")


def test_a_split_without_classes_has_no_labels(tmp_path):
    save(tmp_path / "train" / "cat", TRAIN)
    save(tmp_path / "test", TEST)
    found = splits_of(tmp_path)
    assert found["train"].labels.tolist() == [0] * 36 and found["test"].labels is None


def test_training_images_alone_are_split_by_the_rule_for_all(tmp_path):
    save(tmp_path / "train" / "cat", TRAIN[:20])
    save(tmp_path / "train" / "dog", TRAIN[20:])
    found = splits_of(tmp_path)
    assert [len(data) for data in found.values()] == [32, 4, 4]
    assert set(found["train"].labels.tolist()) == {0, 1}


def plain(path):
    save(path / "train", TRAIN)
    save(path / "test", TEST)


def no_train(path):
    save(path / "test", TEST)


def classes_beside(path):
    save(path / "train", TRAIN)
    save(path / "car", TEST)


def images_beside(path):
    plain(path)
    save(path, TEST[:1], "stray.png")


def empty_test(path):
    save(path / "train", TRAIN)
    (path / "test").mkdir()


def two_validations(path):
    plain(path)
    save(path / "val", TEST)
    save(path / "dev", TEST)


def splits_below(path):
    plain(path / "mnist_png")


def splits_in_classes(path):
    plain(path / "cats")
    plain(path / "dogs")


def splits_in_names(path):
    save(path, TRAIN[:9], "train_{}.png")
    save(path, TEST, "test_{}.png")


def longer_names(path):
    save(path / "training_set" / "cats", TRAIN)
    save(path / "test_set" / "cats", TEST)


def years(path):
    save(path / "train2017", TRAIN)
    save(path / "val2017", TEST)


def windows_names(path):
    save(path, TRAIN[:9], "train\\{}.png")
    save(path, TEST, "test\\{}.png")


def linked_to_itself(path):
    save(path / "train", TRAIN)
    (path / "test").symlink_to("train")


def other_shapes(path):
    save(path / "train", TRAIN)
    save(path / "test", TEST[:, :, :2])


def unreadable(path):
    plain(path)
    (path / "test" / "bad.png").write_text("no image")


def fifo(path):
    plain(path)
    os.mkfifo(path / "test" / "bad.png")


def no_images(path):
    np.save(path / "mine.npy", TRAIN)


REFUSED = {
    no_train: "has test/ and no train/: add it, or, if test is a class and no split, give its folder another name",
    classes_beside: "has car beside train/: move it into one of them or away; if train is a class and no split",
    images_beside: "has stray.png beside test/, train/: move it into one of them or away",
    empty_test: "has no images in test/: put some there, or remove it",
    two_validations: "has two folders for one split among dev/, test/, train/, val/: leave one of them",
    splits_below: "has splits below its top, mnist_png/test/ and mnist_png/train/: name the folder that holds train/",
    splits_in_classes: "has splits below its top, cats/test/ and cats/train/: name the folder that holds train/ and te",
    splits_in_names: "has images named for splits, test_0.png and train_0.png: put them into folders train/ and test/",
    longer_names: "has folders named for splits, test_set/ and training_set/: call them train/ and test/",
    years: "has folders named for splits, train2017/ and val2017/: call them train/ and test/",
    windows_names: "has images named for splits, test.* and train.*: put them into folders train/ and test/",
    linked_to_itself: "has links that make one folder two splits among test/, train/: give each its own",
    other_shapes: r"test/000.png has shape \(2, 2\), but .*train/000.png has \(2, 3\): give all one shape",
    unreadable: "image .*bad.png cannot be read .*: replace or remove it",
    fifo: "image .*bad.png cannot be read .it is no file.: replace or remove it",
    no_images: "has no images: name .*mine.npy itself, or put files such as .png or .jpg into it",
}


@pytest.mark.parametrize("made", REFUSED, ids=lambda made: made.__name__)
@pytest.mark.parametrize("split", ["train", "test"])
def test_what_can_mean_two_things_is_refused(tmp_path, made, split):
    made(tmp_path)
    with pytest.raises(ValueError, match=REFUSED[made]):
        from_folder(tmp_path, split)


def test_other_files_beside_the_splits_do_no_harm(tmp_path):
    plain(tmp_path)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "train.json").write_text("{}")
    (tmp_path / "train.csv").write_text("name,label\n000.png,1\n")
    save(tmp_path / ".ipynb_checkpoints", TEST[:2])
    (tmp_path / ".DS_Store").write_bytes(b"x")
    assert len(from_folder(tmp_path, "test")) == 9


def test_splits_may_be_links_to_folders_elsewhere(tmp_path):
    plain(tmp_path / "far")
    (tmp_path / "here").mkdir()
    for split in ("train", "test"):
        (tmp_path / "here" / split).symlink_to(tmp_path / "far" / split)
    assert len(from_folder(tmp_path / "here", "test")) == 9 and len(from_folder(tmp_path / "here")) == 36


def test_classes_may_be_links_and_a_link_back_up_is_not_followed(tmp_path):
    save(tmp_path / "far" / "dogs", TEST)
    save(tmp_path / "here" / "cats", TRAIN)
    (tmp_path / "here" / "dogs").symlink_to(tmp_path / "far" / "dogs")
    (tmp_path / "far" / "dogs" / "up").symlink_to(tmp_path / "here")
    found = from_folder(tmp_path / "here", "all")
    assert len(found) == 49 and found.labels.tolist() == [0] * 40 + [1] * 9


def test_images_are_read_into_one_array_without_a_copy(tmp_path, monkeypatch):
    save(tmp_path, TRAIN)
    monkeypatch.setattr(np, "stack", lambda *words: pytest.fail("all images are held twice"))
    assert np.array_equal(read_folder(tmp_path).arrays["all"], TRAIN)


def as_npy(path, name, rows):
    np.save(path / f"{name}.npy", rows)


def as_npz(path, name, rows):
    np.savez(path / f"{name}.npz", x=rows, y=rows[:, 0] % 5)


def as_csv(path, name, rows):
    lines = [",".join(map(str, [row[0] % 5, *row])) for row in rows]
    (path / f"{name}.csv").write_text("\n".join(["label,a,b,c", *lines]))


NUMBERS, OTHERS = TRAIN[:, 0].astype(np.int32), TEST[:, 0].astype(np.int32)


@pytest.mark.parametrize("saved", [as_npy, as_npz, as_csv])
@pytest.mark.parametrize("names", [("train", "test"), ("X_train", "X_test"), ("mnist-Train", "mnist-Test")])
def test_array_files_that_name_their_splits(tmp_path, saved, names):
    for name, rows in zip(names, (NUMBERS, OTHERS), strict=True):
        saved(tmp_path, name, rows)
    (tmp_path / "sample_submission.csv").write_text("id,label\n1,0\n")
    found = splits_of(tmp_path)
    assert [len(found[split]) for split in SPLITS] == [36, 4, 9]
    assert np.array_equal(found["test"].images, OTHERS)
    assert f"train is {names[0]}, test is {names[1]}" in found["test"].remarks[0]
    if saved is not as_npy:
        assert (found["test"].labels.numpy() == OTHERS[:, 0] % 5).all()


def test_labels_in_files_of_their_own(tmp_path):
    for name, rows in (("train", NUMBERS), ("test", OTHERS)):
        as_npy(tmp_path, f"x_{name}", rows)
        as_npy(tmp_path, f"y_{name}", rows[:, 0] % 5)
    assert (from_folder(tmp_path, "test").labels.numpy() == OTHERS[:, 0] % 5).all()


def test_words_that_label_two_tables_are_numbered_once(tmp_path):
    (tmp_path / "train.csv").write_text("a,label\n" + "1,cat\n2,dog\n" * 10)
    (tmp_path / "test.csv").write_text("a,label\n3,bird\n4,dog\n")
    assert from_folder(tmp_path, "test").labels.tolist() == [0, 2]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("test",), "has test.npy and no training data: add them, as train.npy"),
        (("test", "valid"), "has test.npy and no training data: add them, as train.npy"),
        (("a_train", "a_test", "b_train"), "needs a key: its keys are a_test .*, a_train .*, b_train"),
        (("train", "x_test"), "needs a key: its keys are train .*, x_test"),
    ],
)
def test_array_files_that_can_mean_two_things_are_refused(tmp_path, names, words):
    for name in names:
        as_npy(tmp_path, name, NUMBERS)
    with pytest.raises(ValueError, match=words):
        from_folder(tmp_path)


def test_tables_of_other_columns_are_refused(tmp_path):
    (tmp_path / "train.csv").write_text("label,a,b\n" + "1,2,3\n" * 20)
    (tmp_path / "test.csv").write_text("id,b,a\n1,2,3\n2,3,4\n")
    with pytest.raises(
        ValueError, match="data column 0 .* of test is called 'b', that of train 'a': give them the sam"
    ):
        from_folder(tmp_path)
    (tmp_path / "test.csv").write_text("id,a,b\n1,2,3\n2,3,4\n")
    assert from_folder(tmp_path, "test").images.tolist() == [[2, 3], [3, 4]]


def test_keys_tell_which_files_are_meant(tmp_path):
    for name in ("a_train", "a_test", "b_train"):
        as_npy(tmp_path, name, OTHERS if name == "a_test" else NUMBERS)
    assert [len(data) for data in splits_of(tmp_path, key="a_train").values()] == [36, 4, 9]
    assert len(from_folder(tmp_path, "test", key="b_train", test_key="a_test")) == 9
    plain(tmp_path / "images")
    with pytest.raises(ValueError, match="holds images, which have no keys: leave 'a_train' out"):
        from_folder(tmp_path / "images", key="a_train")


def test_other_faults_of_array_files(tmp_path):
    as_npy(tmp_path, "train", NUMBERS)
    as_csv(tmp_path, "train", NUMBERS)
    with pytest.raises(ValueError, match="has two files of one name, with other endings: leave one of them"):
        from_folder(tmp_path)
    (tmp_path / "train.csv").unlink()
    np.savez(tmp_path / "test.npz", x_train=NUMBERS, x_test=OTHERS)
    with pytest.raises(ValueError, match="test.npz names splits of its own: name that file, and not its folder"):
        from_folder(tmp_path)
    (tmp_path / "test.npz").write_bytes(b"PK no archive")
    with pytest.raises(ValueError, match="test.npz cannot be read as numbers"):
        from_folder(tmp_path)
    (tmp_path / "test.npz").unlink()
    as_npy(tmp_path, "test", OTHERS[:, :2])
    with pytest.raises(ValueError, match="have shape .2,., but those of train .3,.: give all one shape"):
        from_folder(tmp_path)
