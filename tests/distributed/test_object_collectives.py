"""What ranks do in step, as far as one process can tell; two ranks are in `tests/estimators/test_distributed.py`."""

import pytest

from pplvm.distributed import object_collectives


@pytest.mark.parametrize(
    "hands, whole",
    [
        ([[0, 2, 4], [1, 3]], [0, 1, 2, 3, 4]),
        ([[0], [1, 3]], [0, 1]),  # a first rank that stopped a round before
        ([[0, 3], [1], [2, 5]], [0, 1, 2, 3]),
        ([[], []], []),
    ],
)
def test_what_was_dealt_out_is_put_in_order_up_to_a_gap(hands, whole, monkeypatch):
    monkeypatch.setattr(object_collectives, "all_gather_object", lambda mine: hands)
    assert object_collectives.all_gather_interleaved(hands[0]) == whole


def test_every_rank_has_as_many_turns(monkeypatch):
    monkeypatch.setattr(object_collectives, "size", lambda: 3)
    dealt = []
    for rank in range(3):
        monkeypatch.setattr(object_collectives, "rank", lambda rank=rank: rank)
        dealt.append(list(object_collectives.rank_indices(7)))
    assert dealt == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]  # the last of two ranks are void


def test_the_error_of_one_process_is_its_own():
    for error in (ZeroDivisionError("here"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught, object_collectives.errors_on_all_ranks():
            raise error
        assert caught.value is error


def others_fail(monkeypatch, *told):
    monkeypatch.setattr(object_collectives, "size", lambda: len(told))
    monkeypatch.setattr(object_collectives, "any_rank", lambda failed: any(told))
    monkeypatch.setattr(object_collectives, "all_gather_object", lambda mine: list(told))


def test_the_first_failing_ranks_words_are_those_of_all(monkeypatch):
    others_fail(monkeypatch, None, ("FloatingPointError", "not finite"), ("ValueError", "bad"))
    with pytest.raises(FloatingPointError, match="^rank 1: not finite$"), object_collectives.errors_on_all_ranks():
        pass
    with pytest.raises(FloatingPointError, match="^rank 1: not finite$"), object_collectives.errors_on_all_ranks():
        raise ValueError("bad")


def test_what_all_ranks_say_is_each_ones_own_error(monkeypatch):
    others_fail(monkeypatch, ("RuntimeError", "KeyError: 'a'"), ("RuntimeError", "KeyError: 'a'"))
    with pytest.raises(KeyError), object_collectives.errors_on_all_ranks():
        raise KeyError("a")


def test_a_fault_of_the_first_has_no_number(monkeypatch):
    others_fail(monkeypatch, ("RuntimeError", "KeyError: 'a'"), None)
    with pytest.raises(RuntimeError, match="^KeyError: 'a'$"), object_collectives.errors_on_all_ranks():
        raise KeyError("a")


@pytest.mark.parametrize(
    "error, kind",
    [
        (FileNotFoundError(2, "gone"), "OSError"),
        (UnicodeDecodeError("utf-8", b"", 0, 1, "why"), "ValueError"),
        (LookupError("no program"), "LookupError"),
        (KeyError("a"), "RuntimeError"),  # a fault of the program, not of the input
        (KeyboardInterrupt(), "KeyboardInterrupt"),
    ],
)
def test_kinds_are_those_that_a_command_tells_apart(error, kind):
    assert object_collectives._kind_and_message(error)[0] == kind
