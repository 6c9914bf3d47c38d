"""The user's own data: array files, folders of images, data sets by import path."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image

from pplvm.data.files import from_array, from_dataset, from_folder

DRAW = np.random.default_rng(0)
GREY = DRAW.integers(0, 256, (20, 4, 5), dtype=np.uint8)
COLOUR = DRAW.integers(0, 256, (6, 4, 5, 3), dtype=np.uint8)


def save(folder, arrays, ending="png"):
    folder.mkdir(parents=True, exist_ok=True)
    for i, array in enumerate(arrays):
        Image.fromarray(array).save(folder / f"{i:03}.{ending}")


def test_an_array_file_is_split_and_named(tmp_path):
    np.savez(tmp_path / "mine.npz", x=GREY, y=GREY[:, 0])
    parts = [from_array(tmp_path / "mine.npz", "x", split) for split in ("train", "valid", "test")]
    assert [len(part) for part in parts] == [16, 2, 2]
    assert parts[0].spec.name == "mine.npz"
    together = torch.cat([part.images for part in parts]).numpy()
    assert sorted(x.tobytes() for x in together) == sorted(x.tobytes() for x in GREY)


def test_a_flat_folder_of_grey_images(tmp_path):
    save(tmp_path / "grey", GREY)
    (tmp_path / "grey" / "readme.txt").write_text("not an image")
    (tmp_path / "grey" / "._000.png").write_bytes(b"a Macintosh's shadow of an image")
    data = from_folder(tmp_path / "grey", split="all")
    assert np.array_equal(data.images.numpy(), GREY)
    assert (data.spec.name, data.spec.shape, data.spec.levels, data.labels) == ("grey", (4, 5), 256, None)
    assert len(from_folder(tmp_path / "grey")) == 16


def test_a_nested_folder_of_colour_images(tmp_path):
    save(tmp_path / "b" / "deeper", COLOUR[:4])
    save(tmp_path / "a", COLOUR[4:])
    data = from_folder(tmp_path, split="all")
    assert data.labels.tolist() == [0, 0, 1, 1, 1, 1]
    assert np.array_equal(data.images[2:].numpy(), COLOUR[:4].transpose(0, 3, 1, 2))


def test_black_and_white_images_are_binary(tmp_path):
    save(tmp_path, GREY > 127)
    data = from_folder(tmp_path, split="all")
    assert data.spec.levels == 2
    assert np.array_equal(data[3].numpy(), (GREY[3] > 127).astype(np.float32))


def test_dark_images_are_in_256_levels_by_their_format(tmp_path):
    save(tmp_path, GREY // 4)
    data = from_folder(tmp_path, split="all")
    assert data.spec.levels == 256 and np.array_equal(data[3].numpy(), (GREY[3] // 4).astype(np.float32) / 255)
    assert from_folder(tmp_path, "all", levels=64).spec.levels == 64
    assert from_folder(tmp_path, "all", values="integer")[3].max() == GREY[3].max() // 4


def test_levels_and_values_may_be_told(tmp_path, here):
    np.save(tmp_path / "mine.npy", GREY // 16)
    with pytest.raises(ValueError, match="from 0 to 15, and nothing says which number is white: give --levels 16"):
        from_array(tmp_path / "mine.npy")
    assert from_array(tmp_path / "mine.npy", levels=17).spec.levels == 17
    assert from_array(tmp_path / "mine.npy", values="integer").spec.levels is None
    assert from_dataset("mydata:bare", levels=20)[15].tolist() == [1.0, 1.0]
    assert from_dataset("mydata:grey", values="integer").extremes == (0, 236)


def test_transparency_is_dropped(tmp_path):
    Image.fromarray(np.dstack([COLOUR[0], GREY[0]])).save(tmp_path / "a.png")
    assert np.array_equal(from_folder(tmp_path, "all").images[0].numpy(), COLOUR[0].transpose(2, 0, 1))


@pytest.mark.parametrize("odd", [np.zeros((4, 6), np.uint8), np.zeros((4, 5, 3), np.uint8)], ids=["size", "colour"])
def test_the_first_image_that_differs_is_named(tmp_path, odd):
    save(tmp_path, [*GREY[:3], odd, *GREY[3:5], odd])
    with pytest.raises(ValueError, match=r"003.png has shape .* but .*000.png has \(4, 5\): give all one shape"):
        from_folder(tmp_path)


@pytest.mark.parametrize("how", ["words", "cut", "sixteen bits"])
def test_an_unreadable_image_is_named(tmp_path, how):
    save(tmp_path, GREY[:2])
    if how == "words":
        (tmp_path / "bad.png").write_text("not an image")
    elif how == "cut":
        (tmp_path / "bad.png").write_bytes((tmp_path / "000.png").read_bytes()[:60])
    else:
        Image.fromarray(GREY[0].astype(np.uint16) * 256).save(tmp_path / "bad.png")
    with pytest.raises(ValueError, match="image .*bad.png cannot be read .*: replace or remove it"):
        from_folder(tmp_path)


def test_folders_without_images_are_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing here")
    with pytest.raises(ValueError, match="has no images: put files such as .png"):
        from_folder(tmp_path)
    with pytest.raises(FileNotFoundError, match="no folder .*gone"):
        from_folder(tmp_path / "gone")


MODULE = """
import torch
from torch.utils.data import Dataset, IterableDataset, TensorDataset

class Items(Dataset):
    def __init__(self, items): self.items = items
    def __len__(self): return len(self.items)
    def __getitem__(self, i): return self.items[i]

class Stream(IterableDataset):
    def __iter__(self): return iter([])

grey = TensorDataset(4 * torch.arange(60, dtype=torch.uint8).reshape(20, 3), torch.arange(20))
bare = Items([torch.full((2,), float(i)) for i in range(20)])
names = Items(["one", "two"])
ragged = Items([torch.zeros(3), torch.zeros(3), torch.zeros(4)])
bad = Items([torch.zeros(3), torch.full((3,), float("nan"))])
number = 3
empty = Items([])
stream = Stream()
def made(): return grey
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "mydata.py").write_text(MODULE)
    (tmp_path / "needs_more.py").write_text("import a_module_that_is_not_there")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "mydata", raising=False)


@pytest.mark.parametrize("name", ["grey", "made"])
def test_a_data_set_by_import_path(here, name):
    data = from_dataset(f"mydata:{name}", "all")
    assert torch.equal(data.images, 4 * torch.arange(60, dtype=torch.uint8).reshape(20, 3))
    assert (data.spec.name, data.spec.levels) == (f"mydata:{name}", 256)
    assert len(from_dataset(f"mydata:{name}")) == 16


def test_items_may_be_bare_tensors_and_the_search_path_stays_clean(here):
    before = list(sys.path)
    data = from_dataset("mydata:bare", "all")
    assert data.spec.levels is None and data[19].tolist() == [19.0, 19.0]
    assert sys.path == before


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("mydata", "'mydata' is not an import path: write my_module:my_dataset"),
        ("mydata:gone", "module 'mydata' has no 'gone': it has .*grey"),
        ("nodata:grey", "no module 'nodata' for 'nodata:grey': run where it lies"),
        ("mydata.inner:grey", "no module 'mydata.inner'"),
        ("mydata:number", "not a torch.utils.data.Dataset that has a length"),
        ("mydata:stream", "not a torch.utils.data.Dataset that has a length"),
        ("mydata:names", "item 0 of mydata:names begins with a str: return a tensor"),
        ("mydata:ragged", r"item 2 of mydata:ragged has shape \(4,\), but item 0"),
        ("mydata:bad", "row 1 of data set 'mydata:bad' holds NaN"),
        ("mydata:empty", "'mydata:empty' is empty"),
    ],
)
def test_what_is_no_data_set_is_refused(here, path, words):
    with pytest.raises(ValueError, match=words):
        from_dataset(path)


def test_a_module_that_lacks_another_says_which(here):
    with pytest.raises(ModuleNotFoundError, match="a_module_that_is_not_there"):
        from_dataset("needs_more:grey")
