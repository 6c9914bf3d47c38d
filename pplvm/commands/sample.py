"""`pplvm sample`: draws samples from a trained program, as pictures and as arrays."""

import argparse
import sys
from pathlib import Path

import numpy as np

from pplvm.commands.building.builders import usable_device
from pplvm.commands.output.matplotlib_settings import default_style
from pplvm.commands.output.pictures import Pictures
from pplvm.commands.runs.output_directory import SAMPLES, open_output
from pplvm.commands.runs.trained_program import load_trained
from pplvm.commands.sample_request import sample_request
from pplvm.distributed.ranks import join
from pplvm.evaluation.samples import prior_samples

__all__ = ["run"]


def run(arguments: argparse.Namespace) -> int:
    """Write PNG grids and samples.npz with the arrays `mean` and `draw`, (count, *shape) each, and their conditions."""
    usable_device(arguments.device)
    with default_style(), join(arguments.device) as device:
        trained = load_trained(arguments.run, arguments, device)
        asked = sample_request(trained, arguments.count, arguments.label)
        directory = open_output(Path(arguments.output or trained.directory / "samples"), SAMPLES, arguments.overwrite)
        samples = prior_samples(
            trained.program, asked.like, arguments.count, arguments.seed, temperature=arguments.temperature
        )
        arrays = asked.conditions | {"mean": samples.mean, "draw": samples.draw}
        np.savez_compressed(directory / "samples.npz", **{name: found.cpu().numpy() for name, found in arrays.items()})
        pictures = Pictures(trained, directory, arguments.seed)
        pictures.draw(lambda: samples, asked.classes)
    for sentence in pictures.left_out:
        print(f"pplvm sample: left out {sentence}", file=sys.stderr)
    print(f"wrote {len(pictures.files)} pictures and samples.npz: {directory}")
    return 0
