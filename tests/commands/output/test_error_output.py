"""Who speaks, as far as one process can tell; two ranks are in `tests/estimators/test_distributed.py`."""

import pytest

from pplvm.cli import main
from pplvm.commands.output.error_output import lost_peer, print_error

TORCHRUN = ("RANK", "TORCHELASTIC_USE_AGENT_STORE", "MASTER_ADDR", "MASTER_PORT")


@pytest.mark.parametrize(
    "variables, told",
    [
        ({}, "bad"),
        ({"RANK": "0"}, "bad"),
        ({"RANK": "1"}, "rank 1: bad"),  # in doubt it speaks: nobody can say what the first rank has said
        ({"RANK": "2", "TORCHELASTIC_USE_AGENT_STORE": "True"}, "rank 2: bad"),
    ],
)
def test_without_a_store_all_speak_and_say_who_they_are(variables, told, monkeypatch, capsys):
    for name in TORCHRUN:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    print_error("bad")
    shown = capsys.readouterr()
    assert shown.err == f"{told}\n" and not shown.out


def test_errors_of_the_command_line_say_who_they_are_too(monkeypatch, capsys):
    for name in TORCHRUN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RANK", "3")
    with pytest.raises(SystemExit) as exit:
        main(["compare", "--replicates", "1"])
    assert exit.value.code == 2
    assert capsys.readouterr().err.startswith("rank 3: pplvm compare: argument --replicates: must be at least 2")


@pytest.mark.parametrize(
    "said, sentence",
    [
        ("[third_party/gloo/gloo/transport/tcp/pair.cc:538] Connection closed by peer [::1]:5", "has ended"),
        ("[third_party/gloo/gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 3000ms for recv", "not answer"),
        ("step 3: RuntimeError: [../gloo/transport/tcp/pair.cc:534] Connection reset by peer", "has ended"),
        ("Connection closed by peer", None),  # of a user's own
    ],
)
def test_a_lost_peer_is_told_in_a_sentence(said, sentence):
    found = lost_peer(RuntimeError(said))
    assert found is None if sentence is None else sentence in found
