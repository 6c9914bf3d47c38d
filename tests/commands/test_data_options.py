"""From the words of the command line to the user's own data: every kind of source, its splits, and what is refused."""

import os
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pplvm.cli import main
from pplvm.commands.building.data import build_data
from pplvm.commands.options.build_parser import build_parser

CODE = """
    import pyro, torch
    import pyro.distributions as dist
    from pathlib import Path

    class Watched(torch.nn.Module):
        def __init__(self, data_size):
            super().__init__()
            self.decoder, self.encoder = torch.nn.Linear(2, data_size), torch.nn.Linear(data_size, 2)

        def model(self, x):
            with Path("seen").open("ab") as file:
                file.write(x.flatten(1).round().byte().numpy().tobytes())
            with pyro.plate("batch", len(x)):
                z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
                pyro.sample("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x.flatten(1))

        def guide(self, x):
            with pyro.plate("batch", len(x)):
                pyro.sample("z", dist.Normal(self.encoder(x.flatten(1)), 1.0).to_event(1))

    def dictionaries():
        def items(count, start):
            return [{"image": torch.full((3,), start + i), "mask": torch.eye(3)[i % 3], "y": i} for i in range(count)]
        return {"train": items(30, 0), "validation": items(4, 100), "test": items(5, 200)}
"""
D = 36
IMAGES = (np.random.default_rng(0).random((70, 6, 6)) < 0.5).astype(np.uint8) * 255  # no two of them alike


@pytest.fixture(autouse=True)
def as_a_user(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["pplvm"])
    Path("watching.py").write_text(textwrap.dedent(CODE))
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(torch.float64)
    sys.modules.pop("watching", None)


def save(folder, images):
    Path(folder).mkdir(parents=True)
    for i, image in enumerate(images):
        Image.fromarray(image).save(f"{folder}/{i:03}.png")


def seen(images):
    """Which of some images the program met since the last call, and whether it met any at all."""
    rows = set(np.frombuffer(Path("seen").read_bytes(), np.uint8).reshape(-1, D).view(f"V{D}").ravel().tolist())
    return [i for i, image in enumerate(images) if (image // 255).tobytes() in rows]


@pytest.mark.parametrize("kind", ["folder", "archive"])
def test_nothing_of_test_is_trained_on_and_all_of_it_is_judged(kind, capsys):
    train, test = IMAGES[:50], IMAGES[50:]
    if kind == "folder":
        save("mine/Train/a", train[:25])
        save("mine/Train/b", train[25:])
        save("mine/Test/a", test)
    else:
        np.savez("mine", x_train=train, y_train=np.arange(50), x_test=test)
    data = "mine" if kind == "folder" else "mine.npz"
    words = ["--program", "watching:Watched", "--compile", "off", "--batch-size", "9", "--output", "r"]
    assert main(["fit", "--data", data, "--binarize", "static", "--steps", "50", *words]) == 0
    assert seen(train) == list(range(50)) and seen(test) == []
    told = "50 in train, 20 in test" if kind == "folder" else "train is x_train, test is x_test, labels are y_train"
    assert capsys.readouterr().err.count(told) == 1
    Path("seen").unlink()
    assert main(["evaluate", "r", "--ks", "1,10", "--annealed", "0", "--trust", "watching"]) == 0
    assert seen(train) == [] and seen(test) == list(range(20))


def data_of(*words):
    return build_data(build_parser().parse_args(["fit", "--binarize", "none", *words]))


def test_keys_name_the_splits_of_an_archive():
    np.savez("mine.npz", a=IMAGES[:50], b=IMAGES[50:], c=IMAGES[:7])
    words = ["--data", "mine.npz", "--key", "a", "--test-key", "b", "--valid-key", "c"]
    assert [len(data_of(*words, "--split", split)) for split in ("train", "valid", "test")] == [50, 7, 20]
    assert len(data_of("--data", "mine.npz", "--key", "a")) == 40


def test_a_table_and_what_is_told_of_it(capsys):
    Path("mine.csv").write_text("id,label,p,q\n" + "".join(f"{i},{i % 3},{i % 7},{i}\n" for i in range(40)))
    data = data_of("--data", "mine.csv")
    assert data.spec.shape == (2,) and data.labels.tolist() == (data.images[:, 1] % 3).tolist()
    told = capsys.readouterr().err.splitlines()
    assert told == [
        "mine.csv: column 'id' numbers the rows and is left out",
        "mine.csv: column 'label' is labels and no data",
    ]


def test_items_that_are_dictionaries():
    sizes = [len(data_of("--data", "watching:dictionaries", "--split", s)) for s in ("train", "valid", "test")]
    assert sizes == [30, 4, 5]
    assert data_of("--data", "watching:dictionaries", "--split", "test").images.min() == 200
    assert data_of("--data", "watching:dictionaries", "--key", "mask").images[0].tolist() == [255, 0, 0]


REFUSED = {
    "digits --key x": "--key x has no meaning for --data that is read by its name: leave it out",
    "mine.csv --test-key x": "--test-key x has no meaning for --data that is a table",
    "watching:dictionaries --valid-key x": "--valid-key x has no meaning for --data that names its splits itself",
    "watching:dictionaries --key x": "item 0 of watching:dictionaries (train) has no entry 'x': its entries are image",
    "mine.npz": "mine.npz needs a key: its keys are a (70, 6, 6), b (20, 3)",
    "mine.npz --test-key b": "mine.npz: a key of test data needs the key of the training data beside it",
    "mine.npz --key a --test-key b": "data of test have shape (3,), but those of train (6, 6): give all one shape",
    "gone.csv": "there is no file gone.csv: give the path of a table such as .csv",
    "mine.csv": "mine.csv: row 1 (the first is 0) holds 'cat' in column 'b', which is no number",
    "fifo.npy": "fifo.npy is no regular file: give the path of a .npy or .npz file",
    "fifo.csv": "fifo.csv is no regular file: give the path of a table such as .csv",
    "folder": "folder folder has test/ and no train/: add it",
    "folder/test --key a": "folder folder/test holds images, which have no keys: leave 'a' out",
    "number.npy": "number.npy holds a single number: save an array with a row for each datum",
}


@pytest.mark.parametrize("words", REFUSED)
def test_bad_data_get_one_line(words, capsys):
    np.savez("mine.npz", a=IMAGES, b=np.zeros((20, 3)))
    np.save("number.npy", 3.0)
    Path("mine.csv").write_text("a,b\n1,2\n3,cat\n")
    save("folder/test", IMAGES[:20])
    os.mkfifo("fifo.npy")
    os.mkfifo("fifo.csv")
    assert main(["check", "vae", "--data", *words.split()]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and REFUSED[words] in lines[0]
