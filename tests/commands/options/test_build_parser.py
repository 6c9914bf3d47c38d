"""Help that a newcomer can use: a short usage, options in groups, and examples that the parser takes."""

import inspect
import re
import shlex

import pytest

from pplvm.catalog import PROGRAMS, load
from pplvm.cli import main
from pplvm.commands.options.build_parser import build_parser
from pplvm.commands.options.settings import _takes_several, split_settings
from pplvm.commands.options.signatures import FROM_DATA, settings_of_program

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
    assert len(groups) >= 8 and max(len(group.splitlines()) for group in groups) < 24


@pytest.mark.parametrize("command", [(), *((command,) for command in COMMANDS)])
def test_help_fits_80_columns(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert max(map(len, help_of(capsys, *command).splitlines())) <= 80


def test_a_misspelt_command_is_told_under_the_name_of_pplvm(capsys):
    with pytest.raises(SystemExit):
        main(["fitt"])
    assert capsys.readouterr().err.startswith("pplvm: argument COMMAND: invalid choice: 'fitt'")
    with pytest.raises(SystemExit):
        main(["fit", "--steps", "many"])
    assert capsys.readouterr().err.startswith("pplvm fit: argument --steps: ")


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_list_of_programs_shows_what_set_takes(name, capsys):
    path = PROGRAMS[name].path
    taken = inspect.signature(load(path)).parameters
    words = [shlex.split(setting)[0] for setting in settings_of_program(path)]
    typed = split_settings(words)
    several = {key for key, value in typed.items() if _takes_several(taken[key]) and not isinstance(value, tuple)}
    found = {key: (value,) if key in several else value for key, value in typed.items()}  # as call_with takes them
    parts = {key for key, each in taken.items() if str(each.annotation).startswith("collections.abc.Callable")}
    assert found == {key: each.default for key, each in taken.items() if key not in {*FROM_DATA, *parts}}
    assert main(["list", "programs"]) == 0
    shown = capsys.readouterr().out
    assert all(f"--set {setting}\n" in shown for setting in settings_of_program(path))


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["chek"], "invalid choice: 'chek', did you mean 'check'?"),
        (["fit", "--compile", "of"], "invalid choice: 'of', did you mean 'off'?"),
        (["fit", "my_story.py"], "name a program by --program my_story.py (see pplvm fit --help)"),
        (["compare", "runs/a"], "--program runs/a, or a run by --checkpoint runs/a"),
        (["check", "--program", "vae"], "check takes it without --program"),
        (["fit", "--objectve", "iwae"], "did you mean --objective?"),
        (["evaluate", "runs/mine", "--condition", "labels"], "evaluate takes its conditions from the run"),
    ],
)
def test_a_word_that_is_not_taken_is_told_with_what_may_be_meant(words, hint, capsys):
    with pytest.raises(SystemExit) as exit:
        main(words)
    assert exit.value.code == 2 and hint in capsys.readouterr().err
