"""What each command of the README shows that is worth seeing, better than a baseline wherever there is a figure."""

import re
from pathlib import Path

import torch
import xarray as xr

from pplvm.data.binarization import binarize
from pplvm.data.images import digits, mnist

__all__ = ["BASELINE", "WORTH_SEEING"]


def independent_pixels():
    """-log p(x) of the binarized test digits under independent pixels, in nats: what is worth seeing is below it."""
    rate = binarize(digits("train"), "static").mean().clamp(1e-3, 1 - 1e-3)
    test = binarize(digits("test"), "static").rows(torch.arange(300)).flatten(1)
    return -float((test * rate.log() + (1 - test) * (-rate).log1p()).sum(1).mean())


BASELINE = independent_pixels()


def validated(run):
    """The last validation loss of a run, in nats."""
    lines = (Path(run) / "metrics.csv").read_text().splitlines()
    column = next(i for i, name in enumerate(lines[0].split(",")) if name.startswith("validation/"))
    return -float([line.split(",")[column] for line in lines if line.split(",")[column]][-1])


def newest():
    return max(Path("runs").iterdir(), key=lambda path: path.stat().st_ctime)


def learned(nats, run=None):
    """The validation loss of a run is below independent pixels by so many nats."""

    def look(out):
        assert validated(run or newest()) < BASELINE - nats, validated(run or newest())

    return look


def learned_of_grey(out):
    """A run on binary draws of the files under DIR is below independent pixels of theirs."""
    rate = mnist("train", "DIR").mean().clamp(1e-3, 1 - 1e-3)
    x = mnist("valid", "DIR").rows(torch.arange(10_000)).flatten(1)
    alone = -float((x * rate.log() + (1 - x) * (-rate).log1p()).sum(1).mean())
    assert validated(newest()) < alone - 0.5, (validated(newest()), alone)


def said(*patterns):
    """The output has all of these."""

    def look(out):
        for pattern in patterns:
            assert re.search(pattern, out), f"{pattern!r} is not in {out}"

    return look


def wrote(*names):
    def look(out):
        for name in names:
            assert any(path.stat().st_size > 1000 for path in Path().glob(name)), name

    return look


def compared(*estimators, least=1.0, sections=1):
    """All of them, and no other, were measured, and the last varies more than the first by such a factor."""

    def look(out):
        found = xr.open_groups(newest() / "gradients.nc", engine="h5netcdf")
        measured = {name: data for name, data in found.items() if "variance" in data and "estimator" in data.dims}
        assert len(measured) == sections, list(found)
        for name, data in measured.items():
            assert {*data.estimator.values.tolist()} == {*estimators}
            first, last = (float(data.variance.sel(estimator=estimators[i]).mean()) for i in (0, -1))
            assert last > least * first, (name, first, last)
        said("verdict", "report: ")(out)

    return look


def both(*looks):
    return lambda out: [look(out) for look in looks]


def likelihood_below_baseline(path):
    """The test log p(x) that a page gives is worth seeing."""

    def look(out):
        best = min(float(x) for x in re.findall(r"log p\(x\), k = \d+\s+-(\d+\.\d+)", out))
        assert best < BASELINE - 5 and Path(path).is_dir()

    return look


FOUR = compared("rloo", "score-function", least=0.5, sections=4)  # two programs at two checkpoints
PATHS = compared("iwae", "pathwise", least=0.1)
WORTH_SEEING = {
    "pplvm check my_story.py": said("z", "no violations"),
    "pplvm fit --program my_story:Digits --learning-rate 0.003 --steps 500 --output runs/mine": learned(4, "runs/mine"),
    "pplvm evaluate runs/mine": both(likelihood_below_baseline("runs/mine"), wrote("runs/mine/evaluation*/*.html")),
    "pplvm sample runs/mine --count 100": wrote("runs/mine/samples/*.png", "runs/mine/samples/samples.npz"),
    "pplvm compare --checkpoint runs/mine --estimators pathwise,analytic-kl,stick-the-landing": compared(
        "stick-the-landing", "analytic-kl", "pathwise", least=2
    ),
    "pplvm fit --objective iwae --particles 10 --learning-rate 0.003 --steps 300": learned(4),
    "pplvm fit --program sigmoid-belief-net --set latent_sizes=50,20 --objective vimco --steps 500": learned(2),
    "pplvm fit --data mnist --data-root DIR --binarize dynamic --learning-rate 0.003 --steps 300": learned_of_grey,
    "pplvm fit --warmup 100 --free-bits 0.05 --clip 50 --average 0.99 --learning-rate 0.003 --steps 500": learned(3),
    "pplvm fit --schedule multistep@milestones=600,800@gamma=0.1 --validate-every 50 --early-stop 3": learned(2.5),
    "pplvm fit --aggressive --optimizer sgd@momentum=0.9 --learning-rate 0.1 --clip 5 --steps 100": learned(3),
    "pplvm fit --resume runs/mine --steps 1000": learned(5.5, "runs/mine"),
    "pplvm fit --config runs/mine/config.yaml --program my_story:Digits --output runs/again": learned(4, "runs/again"),
    "pplvm fit --program vq-vae --learning-rate 0.003 --steps 500 --output runs/vq": learned(1.5, "runs/vq"),
    "pplvm fit --program vq-vae --set prior=pixelcnn --initial runs/vq --train prior --steps 300 --output "
    "runs/vq-pixelcnn": both(learned(2, "runs/vq-pixelcnn"), said("codes and distortions .* computed once")),
    "pplvm evaluate runs/vq runs/vq-pixelcnn --ks 1,100 --output runs/rates": said(
        "65,536 states summed out", "codes and data, own bound", "runs/vq-pixelcnn"
    ),
    "pplvm evaluate runs/mine --split valid --ks 1,10,100 --weights best --output runs/valid": both(
        likelihood_below_baseline("runs/valid"), wrote("runs/valid/*.html")
    ),
    "pplvm fit --program my_story:Digits --beta 2 --learning-rate 0.003 --steps 500 --output runs/beta-2": learned(
        2, "runs/beta-2"
    ),
    "pplvm evaluate runs/mine runs/beta-2 --ks 1,100 --output runs/both": said("runs/mine", "runs/beta-2", "rate"),
    "pplvm compare --estimators rloo,vimco,pyro-renyi --particles 8 --steps 2000": both(
        compared("rloo", "vimco", "pyro-renyi", least=0.1), said("pyro-renyi .* BIASED")
    ),
    "pplvm compare --program vae --estimators pathwise,stick-the-landing,dreg": compared(
        "dreg", "stick-the-landing", "pathwise", least=2
    ),
    "pplvm compare --program my_story:Digits --set size=5 --data my_data.npz --key x --estimators pathwise,iwae": PATHS,
    "pplvm compare --budget 20 --estimators rloo,disarm,relax": compared("rloo", "disarm", "relax"),
    "pplvm compare --program sigmoid-belief-net --program vae --steps 0,500 --estimators score-function,rloo": FOUR,
    "pplvm compare --checkpoint mine.pt --estimators rloo,vimco,tvo@partition=0,0.2,1": compared(
        "tvo@partition=0,0.2,1", "vimco", "rloo"
    ),
    "pplvm verify rloo": said("unbiased"),
}
