"""`pplvm fit`: train a program on one process or many, with checkpoints from which it goes on as if never stopped."""

import argparse
import contextlib
import logging
import time
from typing import Any

import torch
from torch import Tensor

from pplvm.batch import as_tuple, moved, without_conditions
from pplvm.commands.building import usable_device
from pplvm.commands.ending import Ending, ending
from pplvm.commands.failure import failure_report
from pplvm.commands.manifest import another_program, manifest_of, with_stage
from pplvm.commands.plan import Plan, build_plan
from pplvm.commands.restoring import restore
from pplvm.commands.run_files import RunFiles, last_checkpoint
from pplvm.commands.say import say
from pplvm.data.batches import batches
from pplvm.data.stored import FileChanged
from pplvm.distributed.collectives import any_rank, gathered, mean, wait
from pplvm.distributed.data_parallel import require_equal
from pplvm.distributed.progress import Bar, bar
from pplvm.distributed.ranks import is_first, join, size
from pplvm.distributed.unison import in_unison
from pplvm.evaluation.progress import Progress
from pplvm.objectives.objective import ObjectiveError
from pplvm.objectives.ruled_sites import repeats_in_words
from pplvm.particles.contract import ProgramError
from pplvm.training.random_state import seeded
from pplvm.training.signals import StopRequest
from pplvm.training.stepper import NotFinite

__all__ = ["run"]

MOST_SKIPPED = 10
"""Batches that --on-nan skip leaves out before it gives up: more are no accident."""


def run(arguments: argparse.Namespace) -> int:
    """Train until --steps, early stopping or a signal; 0, or 129, 130 or 143 after a signal."""
    logging.getLogger("pyro").setLevel(logging.WARNING)  # Pyro tells of every plate that it counts
    usable_device(arguments.device)
    with join(arguments.device) as device, StopRequest() as request:
        with in_unison():
            found = last_checkpoint(arguments.resume) if arguments.resume else None
        if found is not None and (reason := another_program(found.manifest, arguments)):
            raise ValueError(f"{found.path} cannot be resumed: {reason}")
        plan = build_plan(arguments, device, found)
        manifest = with_stage(manifest_of(arguments, plan.loss, plan.epochs.data, size()), plan.stage)
        if found is not None:
            restore(plan, found, manifest)
        if any_rank(request.received is not None):
            say("stopped by a signal before the first step: nothing was written")
            return _exit_code(request)
        with in_unison():
            files = RunFiles(arguments, None if found is None else found.step, manifest["run"])
        with files:
            words, told = _train(plan, files, manifest, request)
        say(f"{words}; {plan.run.step} steps; run directory {files.directory}")
        if is_first():
            print(told)
        wait()  # for what the first process writes
        return _exit_code(request)


def _exit_code(request: StopRequest) -> int:
    """The same on all processes, whichever of them the signal has reached."""
    return int(gathered(torch.tensor([request.exit_code]), size()).max())


def _train(plan: Plan, files: RunFiles, manifest: dict[str, Any], request: StopRequest) -> tuple[str, str]:
    """The run with its time; returns how it ended, in short and with its figures."""
    say(f"training {plan.arguments.program} under {manifest['objective']}; run directory {files.directory}")
    say(f"data: {plan.epochs.data.description(plan.arguments.split)}")
    if plan.pair is not None and (sentence := repeats_in_words(plan.loss, *as_tuple(plan.x))):
        say(sentence)
    started, first = time.perf_counter(), plan.run.step
    training = Training(plan, files, manifest)
    words = training.go(request)
    seconds = time.perf_counter() - started
    rate = round((plan.run.step - first) * plan.epochs.size / seconds)
    with in_unison():
        files.write_json("timing.json", {"seconds": round(seconds, 1), "images_per_second": rate})
    is_stopped = any_rank(request.received is not None)
    found = Ending(plan.run.step, seconds, rate, is_stopped, plan.stopping.is_over and not is_stopped)
    return words, ending(found, files.records(), training.value, plan.arguments, files.directory)


class Training:
    """The loop with all that happens between two steps."""

    def __init__(self, plan: Plan, files: RunFiles, manifest: dict[str, Any]) -> None:
        self.plan, self.files, self.manifest = plan, files, manifest
        self.skipped = 0
        self._told: dict[str, float] = {}
        try:
            self._look = Progress(plan.program, plan.x)
        except ProgramError:  # legal for objectives that need no guide
            self._look = None
        self.value = "bound"
        if self._look is not None and self._look.fault:
            self.value = "objective"
            say(f"{self._look.fault}; what is trained is recorded as the objective")

    def go(self, request: StopRequest) -> str:
        """Train; returns how it ended.

        Raises:
            FloatingPointError: numbers that are not finite; the last checkpoint stands.
        """
        with bar("", self.plan.arguments.steps, self.plan.run.step, unit="steps", shown=True) as shown:
            return self._go(request, shown)

    def _go(self, request: StopRequest, shown: Bar) -> str:
        plan, options = self.plan, self.plan.arguments
        while plan.run.step < options.steps:
            self._step()
            step = plan.run.step
            is_last = step == options.steps
            if step % options.log_every == 0 or is_last:
                self._record()
            is_looked_at = step % options.validate_every == 0 or is_last
            is_best = is_looked_at and self._validate()
            shown.at(step, self._told)
            if plan.aggressive is not None and plan.epochs.position == plan.epochs.length:
                plan.aggressive.end_epoch(self._information)
            is_over = plan.stopping.is_over
            is_stopped = any_rank(request.received is not None)
            if step % options.save_every == 0 or is_best or is_over or is_stopped or is_last:
                self._save(is_best)
            if is_looked_at or step % options.save_every == 0:
                self._draw()
            if is_stopped:
                return f"stopped by a signal and saved: go on with pplvm fit --resume {self.files.directory}"
            if is_over:
                return f"stopped early, validation loss {plan.stopping.best:.3f} nats"
        return "done"

    def _step(self) -> None:
        """One step, on the next batch that gives finite numbers if --on-nan skip."""
        plan = self.plan
        while True:
            before = self._buffers()
            try:
                plan.since.observe(plan.run.advance(), plan.loss.reported())
                return
            except FloatingPointError as error:
                self.skipped += 1
                may_skip = plan.arguments.on_nan == "skip" and isinstance(error, NotFinite) and self._lost() is None
                if not may_skip or self.skipped > MOST_SKIPPED:
                    raise self._failed(plan.run.step + 1, error) from error
                rows = plan.epochs.last_rows.tolist()
                say(f"skipped the batch of rows {rows[0]}, {rows[1 % len(rows)]}, ...: {error}")
                for name, buffer in plan.loss.named_buffers():
                    buffer.copy_(before[name])
            except (ProgramError, ObjectiveError, FileChanged):
                raise
            except Exception as error:
                raise RuntimeError(f"step {plan.run.step + 1}: {type(error).__name__}: {error}") from error

    def _buffers(self) -> dict[str, Tensor]:
        """What a batch that is skipped must not have moved: running averages, clocks."""
        kept = self.plan.loss.named_buffers() if self.plan.arguments.on_nan == "skip" else ()
        return {name: buffer.detach().clone() for name, buffer in kept}

    def _lost(self) -> str | None:
        """The first parameter that is not finite, None if all are."""
        named = self.plan.loss.named_parameters()
        return next((name for name, value in named if not value.detach().isfinite().all()), None)

    def _require_numbers(self) -> None:
        """Refuse to record, judge or save parameters that are not finite, on whichever process."""
        lost = self._lost()
        if any_rank(lost is not None):
            where = "on another process" if lost is None else f"in {lost}"
            error = FloatingPointError(
                f"parameters {where} are not finite: lower the learning rate, or clip the gradient"
            )
            raise self._failed(self.plan.run.step, error)

    def _failed(self, step: int, error: FloatingPointError) -> FloatingPointError:
        """The report is written, and the user told where it is and how to go on."""
        with contextlib.suppress(OSError):  # a full disk must not hide what happened
            self.files.write_json("failure.json", failure_report(self.plan, error))
        run, saved = self.files.directory, self.files.saved_step
        after = "nothing was saved before" if saved is None else f"--resume {run} goes on from step {saved}"
        return FloatingPointError(f"step {step}: {error}; {run}/failure.json tells of the batch, {after}")

    def _record(self) -> None:
        """Write down what the last steps came to."""
        plan = self.plan
        self._require_numbers()
        loss, norm, penalties = plan.since.told()
        values = {
            "epoch": plan.epochs.epoch,
            self.value: -loss,
            **{f"penalty_{name}": value for name, value in penalties.items()},
            "gradient_norm": norm,
            "learning_rate": next(iter(plan.run.stepper.optimizers.values())).param_groups[0]["lr"],
        }
        if self._look is not None and plan.run.x is not None:
            values |= {name: float(mean(torch.tensor(value))) for name, value in self._look(plan.run.x).items()}
        self._write_down(values)
        self._tell({name: values[name] for name in (self.value, "rate", "distortion") if name in values} | penalties)

    def _tell(self, figures: dict[str, float]) -> None:
        """Figures for the progress bar, in the order of their weight."""
        found = self._told | figures
        names = (self.value, "valid", *self.plan.since.penalties, "rate", "distortion")
        self._told = {name: found[name] for name in names if name in found}

    def _write_down(self, values: dict[str, Any]) -> None:
        with in_unison():  # a full disk ends all ranks in its words
            self.files.record(self.plan.run.step, values)

    def _validate(self) -> bool:
        """Look at the validation data; whether the loss is the lowest so far. All processes see all of them."""
        plan = self.plan
        if plan.valid is None:
            return False
        self._require_numbers()
        loss = plan.judged
        was_training = loss.training
        loss.eval()
        found = 0.0
        with seeded(plan.arguments.seed), torch.no_grad():  # the same noise at every look and on every process
            for x in batches(plan.valid, min(plan.epochs.size, len(plan.valid)), shuffle=False, device=plan.device):
                parts = as_tuple(x)
                found += float(loss(*parts)) * len(parts[0]) / len(plan.valid)
        loss.train(was_training)
        self._write_down({f"validation/{self.value}": -found})
        self._tell({"valid": -found})
        return plan.stopping.observe(found)

    def _information(self) -> float:
        from pplvm.evaluation.information import mutual_information

        assert self.plan.valid is not None
        every = moved(self.plan.valid.batch(torch.arange(len(self.plan.valid))), self.plan.device)
        return mutual_information(self.plan.program, without_conditions(every), seed=self.plan.arguments.seed)

    def _draw(self) -> None:
        """The curves so far, where they are due."""
        with in_unison():
            self.files.draw_in_time()

    def _save(self, is_best: bool) -> None:
        self._require_numbers()
        require_equal(self.plan.loss, f"at step {self.plan.run.step}")
        weights, state = self.plan.program.state_dict(), self.plan.run.state_dict()
        with in_unison():
            self.files.save(self.plan.run.step, weights, state, self.manifest, is_best)
