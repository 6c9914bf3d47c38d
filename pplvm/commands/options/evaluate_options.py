"""Options of `pplvm evaluate`."""

import argparse

from pplvm.commands.options.option_types import at_least
from pplvm.commands.options.parser import Parser
from pplvm.commands.options.shared_options import SPLITS, add_device, add_output, add_seed, add_trust, finish

__all__ = ["add_evaluate"]

EXAMPLES = (
    "pplvm evaluate runs/mine",
    "pplvm evaluate runs/mine --weights best --annealed 20",
    "pplvm evaluate runs/mine --split valid --ks 1,10,100",
    "pplvm evaluate runs/beta-1 runs/beta-4",
    "pplvm evaluate runs/seed-0 runs/seed-1 runs/seed-2 --factors --ks 1,10,100",
)


def add_evaluate(commands: "argparse._SubParsersAction[Parser]") -> None:
    evaluate = commands.add_parser(
        "evaluate",
        help="evaluate a trained program: log p(x), rate, information, pictures",
        usage="pplvm evaluate RUN [RUN ...] [OPTION ...]",
        description="Judge what pplvm fit left in one run directory, or compare several.",
        examples=EXAMPLES,
    )
    evaluate.add_argument(
        "run", nargs="+", metavar="RUN", help="a directory that pplvm fit wrote; several are compared"
    )
    group = evaluate.add_argument_group("what is evaluated")
    group.add_argument(
        "--weights", default="latest", choices=("latest", "best"), metavar="WHICH", help="latest, best [%(default)s]"
    )
    group.add_argument(
        "--split", default="test", choices=SPLITS, metavar="SPLIT", help="train, valid, test [%(default)s]"
    )
    group.add_argument("--limit", type=at_least(1), metavar="N", help="only the first N data of the split")
    group.add_argument(
        "--every", type=at_least(1), default=1, metavar="N", help="only each Nth datum of the split [%(default)s]"
    )
    group.add_argument(
        "--hide-labels", action="store_true", help="log p(x) of a program that observes labels: none are known"
    )
    group.add_argument("--data-root", metavar="DIR", help="where the data lie, if elsewhere than in training")
    group.add_argument(
        "--factors", nargs="?", const="factors", metavar="NAME",
        help="score disentanglement against the array of known factors beside the data, (N, F) integers [factors]",
    )  # fmt: skip
    group = evaluate.add_argument_group("likelihood")
    group.add_argument("--ks", help="particles of log p(x) [1,10,100,1000,5000; of programs of codes 1,10,100]")
    group.add_argument(
        "--annealed", type=at_least(0), default=0, metavar="N",
        help="data for annealed importance sampling and its bounds; 20, say, take minutes [%(default)s]",
    )  # fmt: skip
    group.add_argument(
        "--chains", type=at_least(1), default=16, metavar="N", help="annealing chains for each datum [%(default)s]"
    )
    group.add_argument(
        "--annealing-steps", type=at_least(1), default=200, metavar="N", help="annealing steps [%(default)s]"
    )
    group = evaluate.add_argument_group("information")
    group.add_argument(
        "--information", type=at_least(0), metavar="N",
        help="data that information is told of, evenly spread; 0 leaves it out [all, or as many as a guide whose "
        "networks run for each pair of draw and datum can afford]",
    )  # fmt: skip
    add_output(evaluate.add_argument_group("output"), "RUN/evaluation-SPLIT", "an evaluation")
    group = evaluate.add_argument_group("machine")
    group.add_argument(
        "--compile", default="auto", choices=("auto", "off", "graph", "inductor"), metavar="TIER",
        help="draw particles through one graph of the program: auto (where that pays), off, graph, inductor "
        "[%(default)s]",
    )  # fmt: skip
    add_device(group)
    add_seed(group)
    add_trust(group)
    finish(evaluate, "pplvm.commands.evaluate")
