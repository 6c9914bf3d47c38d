"""The table of estimators, made from the code: tried on small programs, judged by `pplvm verify`, never declared.

python -m docs.estimators          prints docs/estimators.md
"""

import contextlib
import inspect
import logging
import re
from collections.abc import Callable
from functools import partial

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import ELBO
from torch import Tensor, nn

from pplvm.catalog import OBJECTIVES
from pplvm.commands.building.builders import build_objective, takes_particles
from pplvm.estimators.cost.evaluations import evaluations_per_datum
from pplvm.estimators.references.target import target_label, target_of
from pplvm.estimators.verification.verify import verify
from pplvm.objectives.objective import Loss, ObjectiveError
from pplvm.particles.contract import ProgramError
from pplvm.programs.sigmoid_belief import SigmoidBeliefNet

__all__ = ["LEGAL", "declared", "judged", "page"]

K = 2
COLUMNS = ("name", "class", "estimates", "guide sites", "evaluations, K = 2", "source", "mean gradient")
INTRODUCTION = """\
# Estimators

Made by `python -m docs.estimators > docs/estimators.md` from the code; `tests/test_docs.py` holds it to that.
*Estimates*: what the gradient is compared with. *Guide sites*: the single-site guides on which it runs.
*Evaluations*: likelihood evaluations per datum of one gradient, counted on a belief net of one layer of 10
Bernoullis, or on a Gaussian latent, at K = 2 particles where K can be set. *Mean gradient*: what
`pplvm verify NAME` finds over all tiny programs that it runs on; a bias is that of the worst, against the limit of many
particles for what only tends to it (`rws`, `thermodynamic`, `prior-sampling`). *Undecided*: no gradient to compare with
(`wake-sleep`, `free-bits-rloo`), or too few draws by default.
*Refused everywhere*: most tiny programs have two latents, and `beta-tcvae` splits the KL of one; none draws straight
through, as `biased-pathwise` needs it.
"""


class OneSite(nn.Module):
    """A guide of one learned site, a model that reads it."""

    def __init__(self, of: Callable[[Tensor], dist.Distribution]) -> None:
        super().__init__()
        self.of, self.inwards, self.outwards = of, nn.Parameter(torch.ones(3) / 3), nn.Parameter(torch.ones(3) / 2)

    def model(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", self.of(self.outwards.expand(len(x), 3)))
            mean = (z * self.outwards).sum(-1) if z.dim() and z.shape[-1:] == (3,) else 0.3 * z
            pyro.sample("x", dist.Normal(mean * self.outwards[0], 1.0), obs=x)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            pyro.sample("z", self.of(self.inwards + 0.1 * x.unsqueeze(-1)))


LEGAL = {
    "Bernoulli": lambda a: dist.Bernoulli(logits=a[..., 0]),
    "OneHotCategorical": lambda a: dist.OneHotCategorical(logits=a),
    "Categorical": lambda a: dist.Categorical(logits=a),
    "Poisson": lambda a: dist.Poisson(a[..., 0].exp()),
    "Normal": lambda a: dist.Normal(a[..., 0], a[..., 1].exp()),
    "Gamma": lambda a: dist.Gamma(a[..., 0].exp(), a[..., 1].exp()),
}


def page() -> str:
    """The whole page, in Markdown; minutes, for every estimator is proven anew."""
    rows = [[*declared(name), judged(name)] for name in OBJECTIVES]
    table = [COLUMNS, ["---"] * len(COLUMNS), *rows]
    return INTRODUCTION + "\n" + "".join("| " + " | ".join(row) + " |\n" for row in table)


def declared(name: str) -> list[str]:
    """All of an estimator's row but the verdict; seconds."""
    torch.manual_seed(0)
    objective = _build(name, torch.zeros(1, 1))
    sites = [site for site, of in LEGAL.items() if _runs(name, OneSite(of), torch.tensor([0.3, -0.6]))]
    target, particles = target_of(Loss(objective, OneSite(LEGAL["Normal"])))
    return [
        f"`{name}`",
        f"`{type(getattr(objective, 'objective', objective)).__name__}`",
        target_label(target, particles),
        ", ".join(sites),
        _evaluations(name),
        _source(getattr(objective, "objective", objective)),
    ]


def judged(name: str) -> str:
    """What `pplvm verify` finds, in a word, and the worst bias."""
    found = list(verify(partial(_build, name)))
    verdicts = [finding.verdict for finding in found]
    worst = next((v for v in ("broken", "biased", "undecided", "unbiased") if v in verdicts), "refused everywhere")
    if worst != "biased":
        return worst
    percent = [re.search(r"by (?:about )?(\S+) %", f.reason) for f in found if f.verdict == "biased"]
    return f"biased, {max(float(match.group(1)) for match in percent if match):g} %"


def _build(name: str, x: Tensor) -> ELBO:
    size = x[0].numel()
    known = {"data_size": size, "data_mean": torch.full((size,), 0.5)}
    return build_objective(name, known | ({"num_particles": K} if takes_particles(name) else {}))


def _runs(name: str, program: nn.Module, x: Tensor) -> bool:
    with contextlib.suppress(ObjectiveError, ProgramError, ValueError, NotImplementedError):
        with pyro.get_param_store().scope():
            return bool(Loss(_build(name, x), program)(x).isfinite())
    return False


def _evaluations(name: str) -> str:
    x = torch.ones(2, 4)
    for program, data in ((SigmoidBeliefNet(4, (10,)), x), (OneSite(LEGAL["Normal"]), x[:, 0])):
        if _runs(name, program, data):
            with pyro.get_param_store().scope():
                return f"{evaluations_per_datum(Loss(_build(name, data), program), data):g}"
    return "-"


def _source(objective: ELBO) -> str:
    """The first reference of the docstring, to its year."""
    text = inspect.getdoc(type(objective)) or ""
    if type(objective).__module__.startswith("pyro."):
        return "Pyro"
    if "References:" not in text:
        return "-"
    first = " ".join(text.split("References:")[1].split("\n\n")[0].split())
    match = re.match(r"(.*?\b(?:19|20)\d\d)\b(?:[^A-Z]*?arXiv:(\d{4}\.\d{4,5}))?", first)
    assert match is not None, f"{type(objective).__name__}: the reference names no year"
    return match.group(1) + (f", arXiv:{match.group(2)}" if match.group(2) else "")


if __name__ == "__main__":
    logging.getLogger("pyro").setLevel(logging.WARNING)
    print(page(), end="")
