"""A training says when it was thrown away unused, what it has done so far, and runs to its end when asked."""

import gc
import subprocess
import sys
import warnings

import pytest
import torch

from pplvm.training.fit import fit
from pplvm.training.fit_iterator import FitIterator


def training(steps=5, lr=0.1, loss=None):
    net = torch.nn.Linear(2, 1)
    loss = torch.nn.Sequential(net, torch.nn.Softplus(), torch.nn.Flatten(0)) if loss is None else loss
    return fit(loss, steps * [torch.ones(1, 2)], torch.optim.SGD(net.parameters(), lr=lr), compile="off")


def test_run_takes_all_steps_and_gives_their_losses():
    torch.manual_seed(0)
    looped = torch.cat(list(training()))
    torch.manual_seed(0)
    found = training().run()
    assert torch.equal(found, looped) and found.shape == (5,) and not found.requires_grad
    assert training(steps=0).run().shape == (0,)


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_what_an_error_has_ended_does_not_pretend_to_go_on(error):
    def losses():
        yield torch.tensor(1.0)
        raise error

    ended = FitIterator(losses(), "Loss", planned=3)
    with pytest.raises(error):
        ended.run()
    with pytest.raises(RuntimeError, match=f"ended by {error.__name__} after 1 steps: call fit again"):
        ended.run()


def test_run_shows_its_progress_where_it_is_asked_to(monkeypatch, capsys):
    monkeypatch.setattr("pplvm.training.fit_iterator.SECONDS_BETWEEN", -1)
    monkeypatch.setattr("pplvm.distributed.progress.SECONDS", 0)
    monkeypatch.setattr("pplvm.distributed.progress.GROWTH", 0)
    training().run()
    assert capsys.readouterr().err == "", "no terminal, and nobody asked"
    losses = training().run(progress=True)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 5 and lines[-1].startswith("5 of 5 steps, loss ")
    assert lines[-1].split()[-1] == f"{losses[-1]:.2f}"


def test_run_goes_on_after_a_loop_that_broke_off():
    steps = training()
    for number, _ in enumerate(steps):
        if number == 1:
            break
    assert steps.taken == 2 and len(steps.run()) == 3 and len(steps.run()) == 0


def test_it_is_an_iterator_as_before():
    steps = training()
    assert iter(steps) is steps
    pairs = list(zip(range(2), steps, strict=False))
    assert len(pairs) == 2 and next(steps).numel() == 1


def test_it_shows_how_far_it_is():
    steps = training()
    assert repr(steps) == (
        "<fit of Sequential: not started, 5 steps planned; call .run(), or loop over it: for value in ...>"
    )
    value = float(next(steps))
    assert repr(steps) == f"<fit of Sequential: 1 of 5 steps taken, the last loss is {value:.2f}>"
    list(steps)
    assert repr(steps).startswith("<fit of Sequential: 5 of 5 steps taken, the last loss")
    endless = FitIterator(iter([]), "Loss")
    assert repr(endless) == "<fit of Loss: not started; call .run(), or loop over it: for value in ...>"


def test_one_that_is_thrown_away_before_its_first_step_warns_at_that_line():
    with pytest.warns(
        RuntimeWarning, match=r"^fit of Sequential was thrown away .* nothing was trained: write fit"
    ) as w:
        training_here()
    assert w[0].filename == __file__ and source_line(w[0].lineno).strip().startswith("fit(loss, ")


def training_here():
    net = torch.nn.Linear(2, 1)
    loss = torch.nn.Sequential(net, torch.nn.Flatten(0))
    fit(loss, [torch.ones(1, 2)], torch.optim.SGD(net.parameters(), lr=0.1), compile="off")
    return net


def source_line(number):
    with open(__file__) as file:
        return file.readlines()[number - 1]


def test_no_warning_once_it_has_begun_or_when_an_exception_is_to_blame():
    def fails():
        net = torch.nn.Linear(2, 1)
        steps = fit(net, [torch.ones(1, 2)], torch.optim.SGD(net.parameters(), lr=0.1), compile="off")
        raise KeyError(repr(steps))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        next(training())
        list(training(steps=0))
        try:
            fails()
        except KeyError:
            pass
        with pytest.raises(ValueError, match="clip must be positive"):
            fit(torch.nn.Linear(2, 1), [], torch.optim.SGD([torch.zeros(1)], lr=0.1), clip=0.0)
        gc.collect()


PROGRAM = """
import torch
from pplvm.training.fit import fit
net = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
{line}
"""


@pytest.mark.parametrize(
    "line, warns",
    [
        ("fit(net, [torch.ones(1, 2)], optimizer)", True),
        pytest.param("kept = fit(net, [torch.ones(1, 2)], optimizer)", False, marks=pytest.mark.slow),
        pytest.param("kept = fit(net, [torch.ones(1, 2)], optimizer); raise SystemExit", False, marks=pytest.mark.slow),
    ],
)
def test_a_script_is_warned_by_its_line_and_not_at_its_end(tmp_path, line, warns):
    (tmp_path / "script.py").write_text(PROGRAM.format(line=line))
    done = subprocess.run([sys.executable, tmp_path / "script.py"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0
    assert ("script.py:6: RuntimeWarning: fit of Linear was thrown away" in done.stderr) == warns, done.stderr
    assert warns or not done.stderr
