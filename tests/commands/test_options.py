"""Help that a newcomer can use: a short usage, options in groups, and examples that the parser takes."""

import re
import shlex

import pytest

from pplvm.cli import main
from pplvm.commands.options import build_parser

COMMANDS = ("fit", "evaluate", "sample", "compare", "check", "verify", "list")


def help_of(capsys, *words):
    with pytest.raises(SystemExit) as exit:
        main([*words, "--help"])
    assert exit.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_examples_that_the_parser_takes(command, capsys):
    shown = help_of(capsys, command)
    assert shown.splitlines()[0].startswith(f"usage: pplvm {command}") and len(shown.splitlines()[0]) < 80
    examples = re.findall(rf"^  (pplvm {command}\b.*)$", shown.partition("examples:")[2], re.MULTILINE)
    assert examples
    for example in examples:
        assert build_parser().parse_args(shlex.split(example)[1:]).command == command


def test_the_options_of_fit_stand_in_groups_of_a_screenful(capsys):
    groups = help_of(capsys, "fit").split("\n\n")
    assert len(groups) >= 8 and max(len(group.splitlines()) for group in groups) <= 16
