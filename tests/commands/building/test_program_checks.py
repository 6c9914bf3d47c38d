"""Programs held against data with conditions, and what the data know in programs that ask for it."""

import sys
import textwrap

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pplvm.cli import main
from pplvm.commands.building.program_checks import ConditionsError, check_data, run_once
from pplvm.data.image_data import ImageData

NUMBERS = torch.arange(40)

CODE = """
    import pyro, torch
    import pyro.distributions as dist
    from torch import nn
    from torch.nn.functional import one_hot
    from pplvm.programs.parts import bernoulli
    from pplvm.programs.vae import VAE

    class Conditional(nn.Module):
        '''p(x | y): z ~ N(0, I), x | z, y ~ Bernoulli.'''

        def __init__(self, data_shape, num_classes, levels, data_mean, latent_size=2):
            super().__init__()
            C, H, W = data_shape
            self.data_shape, self.num_classes, self.levels = data_shape, num_classes, levels
            self.decoder = nn.Linear(latent_size + num_classes, C * H * W)
            self.encoder = nn.Sequential(
                nn.Conv2d(C, 4, 3), nn.Flatten(1), nn.Linear(4 * (H - 2) * (W - 2), latent_size)
            )
            self.latent_size = latent_size

        def model(self, x, y):
            code = one_hot(y, self.num_classes).to(x.dtype)
            with pyro.plate("batch", len(x)):
                z = pyro.sample("z", dist.Normal(x.new_zeros(self.latent_size), 1.0).to_event(1))
                logits = self.decoder(torch.cat([z, code.expand(*z.shape[:-1], -1)], -1))
                pyro.sample("x", dist.Bernoulli(logits=logits).to_event(1), obs=x.flatten(1))

        def guide(self, x, y):
            with pyro.plate("batch", len(x)):
                pyro.sample("z", dist.Normal(self.encoder(x), 1.0).to_event(1))

    class Alone(nn.Module):
        def __init__(self, data_size):
            super().__init__()
            self.decoder, self.encoder = nn.Linear(2, data_size), nn.Linear(data_size, 2)

        def model(self, x):
            with pyro.plate("batch", len(x)):
                z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
                pyro.sample("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x.flatten(1))

        def guide(self, x):
            with pyro.plate("batch", len(x)):
                pyro.sample("z", dist.Normal(self.encoder(x.flatten(1)), 1.0).to_event(1))

    class Either(Alone):
        def model(self, x, y=None):
            super().model(x)

        def guide(self, x, y=None):
            super().guide(x)

    class Optional(Either):
        def __init__(self, data_size, data_shape=None, num_classes=0):
            super().__init__(data_size)
            self.data_shape = data_shape

    class TwoConditions(Alone):
        def model(self, x, y, mask):
            super().model(x)

        def guide(self, x, y, mask):
            super().guide(x)

    class Labelled(nn.Linear):
        def forward(self, z, y):
            return super().forward(z) + y.unsqueeze(-1)

    def needs_labels(data_size):
        return VAE(data_size, latent_size=2, decoder=Labelled(2, data_size), likelihood=bernoulli)
"""


@pytest.fixture(autouse=True)
def single_precision():
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(torch.float64)


@pytest.fixture
def check(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "conditional.py").write_text(textwrap.dedent(CODE))

    def run(name, *words):
        code = main(["check", f"conditional:{name}", *words])
        return code, capsys.readouterr()

    yield run
    sys.modules.pop("conditional", None)


def test_what_the_data_know_reaches_a_program_that_asks(check):
    code, told = check("Conditional", "--condition=labels", "--binarize=dynamic")
    lines = told.out.splitlines()
    assert code == 0 and "shape (1, 8, 8)" in lines[0] and lines[1].endswith("given labels of 10 classes")
    assert lines[2] == "given: labels (8,) int64, 0 to 9 in this batch"
    assert lines[3] == "from the data: data_shape=(1, 8, 8), levels=2, num_classes=10"
    code, told = check("Either", "--condition=labels", "--known-labels=50")
    assert code == 0 and "given labels of 10 classes, 1,247 of 1,297 not known" in told.out
    assert "given: labels (8,) int64, -1 to" in told.out and "from the data" not in told.out


def test_grey_images_have_a_channel_where_the_program_asks_for_one(check):
    for words, shape in ((("Optional",), "(1, 8, 8)"), (("Either", "--condition=labels"), "(8, 8)")):
        code, told = check(*words)
        assert code == 0 and f", shape {shape}\n" in told.out
    np.save("flat.npy", (np.random.default_rng(0).random((60, 7)) < 0.5).astype(np.uint8))
    code, told = check("Optional", "--data=flat.npy")
    assert code == 0 and ", shape (7,)\n" in told.out and "from the data" not in told.out
    code, told = check("Conditional", "--data=flat.npy", "--set=num_classes=3")
    assert code == 2 and told.err == (
        "pplvm check: program conditional:Conditional needs data_shape, (C, H, W) of an image: data set 'flat.npy' "
        "holds data of shape (7,), and images are (H, W) or (C, H, W): save them so\n"
    )


def test_a_number_of_classes_with_a_default_is_given_where_labels_are(check):
    assert "from the data: data_shape=(1, 8, 8)\n" in check("Optional")[1].out
    told = check("Optional", "--condition=labels")[1].out
    assert "from the data: data_shape=(1, 8, 8), num_classes=10\n" in told


REFUSED = {
    "Alone --condition labels": "program Alone has a model(x) that takes x alone, and --condition gives it labels",
    "Conditional": "program Conditional has a model(x, y) that needs y beside x, and as data are read they are x alone",
    "Conditional --condition labels,mask": "it has labels",
    "TwoConditions --condition labels": "needs y and mask beside x, and as data are read beside x they have only "
    "labels: name what it needs, in its order, as --condition labels,mask",
    "needs_labels --data digits": "VAE: a part, Labelled, needs 1 of the data's conditions, and there are none",
    "Conditional --condition labels --known-labels 50": "non-negative.; labels that are not known are -1: write a prog",
    "Alone --condition colour": "--condition colour: data set 'digits' has no 'colour' of one row a datum",
    "Alone --known-labels 50": "--known-labels 50 is a number of labels to train with: add --condition labels",
    "Either --condition labels --known-labels 5": "--known-labels 5: 5 known labels leave some of 10 classes",
    "Either --condition labels --known-labels 1298": "--known-labels 1298: 1,298 labels cannot be kept, as 1,297 are",
    "Either --condition labels --data mine.npz": "--condition labels: data set 'mine.npz' has no labels",
    "Conditional --data mine.npz": "program conditional:Conditional needs num_classes: give it as num_classes=VALUE",
    "Alone --condition labels,": "must be different names, as labels or labels,mask, got 'labels,'",
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_does_not_fit_gets_one_sentence(words, check, capsys):
    np.savez("mine.npz", x=np.random.default_rng(0).integers(0, 2, (60, 4, 4), dtype=np.uint8))
    try:
        code, told = check(*words.split())
        err = told.err
    except SystemExit as error:
        code, err = error.code, capsys.readouterr().err
    assert code == 2 and REFUSED[words] in err and len(err.splitlines()) == 1
    assert "pplvm's own digits" not in err  # which are not what is wrong


def test_a_program_whose_conditions_have_a_default_runs_either_way(check):
    for words in ([], ["--condition=labels"], ["--condition=labels", "--known-labels=10"]):
        code, told = check("Either", *words)
        assert code == 0 and "no violations" in told.out


class Labelled(nn.Module):
    """z ~ N(0, 1), y | z of so many classes, x | z real; it observes what it makes of y."""

    def __init__(self, classes=5, made=lambda y: y, mask=lambda y: None):
        super().__init__()
        self.logits, self.made, self.mask = nn.Linear(1, classes), made, mask

    def model(self, x, y):
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            of_class = dist.Categorical(logits=self.logits(z))
            pyro.sample("y", of_class if (m := self.mask(y)) is None else of_class.mask(m), obs=self.made(y))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    def guide(self, x, y):
        with pyro.plate("batch", len(x)):
            pyro.sample("z", dist.Normal(x, 1.0).to_event(1))


def test_an_observed_condition_is_held_against_all_of_its_rows():
    labels = NUMBERS // 8
    data = ImageData(torch.rand(40, 1), "toy", None, labels).conditioned("labels")
    first = data.batch(torch.arange(4))
    check_data(Labelled(), data, first)
    with pytest.raises(ValueError, match=r"has 4 in row 32 of its labels, but site 'y' is a Categorical, whose suppo"):
        check_data(Labelled(classes=4), data, first)
    some = data.with_known_labels(10)
    row = int((some.labels < 0).nonzero()[0])
    batch = some.batch((some.labels >= 0).nonzero()[:4, 0])
    with pytest.raises(ValueError, match=rf"has -1 in row {row} of its labels, .*: observe obs=y.clamp\(min=0\)"):
        check_data(Labelled(), some, batch)
    check_data(Labelled(made=lambda y: y.clamp(min=0), mask=lambda y: y >= 0), some, batch)


def test_a_program_is_called_with_what_it_takes():
    class Masked(Labelled):
        def model(self, x, y, mask):
            super().model(x, y)

        def guide(self, *parts):
            super().guide(*parts[:2])

    x, y = torch.rand(4, 1), torch.zeros(4).long()
    data = ImageData(torch.rand(40, 1), "toy", None)
    assert run_once(Masked(), data, (x, y, y))[2] == []
    with pytest.raises(ConditionsError, match=r"model\(x, y, mask\) that needs y and mask beside x, .* they are x alo"):
        run_once(Masked(), data, x)
    with pytest.raises(
        ConditionsError,
        match=r"\(x, y\) that takes 1 condition beside x, and --condition gives it condi",
    ):
        run_once(Labelled(), data, (x, y, y))
