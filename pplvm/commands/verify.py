"""`pplvm verify`: tests an estimator, built in or a user's, against known gradients."""

import argparse
import logging
import textwrap

import torch
from pyro.infer import ELBO
from torch import Tensor

from pplvm.commands.building.builders import build_objective, takes_particles
from pplvm.estimators.verification.known_gradients import KNOWN
from pplvm.estimators.verification.verify import Finding, verify

__all__ = ["run"]

MEANINGS = {
    "unbiased": "unbiased wherever it applies",
    "biased": "BIASED",
    "broken": "BROKEN",
    "undecided": "undecided",
    "refused": "refused by every program: nothing was proven",
}


def run(arguments: argparse.Namespace) -> int:
    """Print the finding of each known program and the verdict; return 0 if unbiased, 1 if not."""
    logging.getLogger("pyro").setLevel(logging.WARNING)
    name = arguments.estimator

    def build(x: Tensor) -> ELBO:
        size = x[0].numel()
        known = {"data_size": size, "data_mean": torch.full((size,), 0.5)}
        return build_objective(name, known | ({"num_particles": arguments.particles} if takes_particles(name) else {}))

    build(torch.zeros(1, 1))  # a misspelt name is no fault of the estimator
    found = []
    try:
        for finding in verify(build, arguments.draws):
            found.append(finding)
            print(_sentence(finding), flush=True)
    except KeyboardInterrupt:
        print(f"{name}: interrupted after {len(found)} of {len(KNOWN)} programs: no verdict", flush=True)
        return 130
    verdict = _overall([finding.verdict for finding in found])
    print(f"{name}: {MEANINGS[verdict]}")
    return 0 if verdict == "unbiased" else 1


def _sentence(finding: Finding) -> str:
    first = f"{finding.program}: {finding.verdict.upper() if finding.verdict != 'unbiased' else 'unbiased'}"
    return first + "\n" + textwrap.fill(finding.reason, 100, initial_indent="    ", subsequent_indent="    ")


def _overall(verdicts: list[str]) -> str:
    """The worst of the verdicts; a refusal counts only where there is no other."""
    return next((v for v in ("broken", "biased", "undecided", "unbiased") if v in verdicts), "refused")
