"""`pplvm fit`: trains a program on one process or many, with checkpoints to resume from bit-identically."""

import argparse
import contextlib
import logging
import time
from typing import Any

import torch
from torch import Tensor

from pplvm.batch import as_tuple, to_device, without_conditions
from pplvm.commands.building.builders import usable_device
from pplvm.commands.building.plan import Plan, build_plan
from pplvm.commands.output.fit_summary import FitOutcome, fit_summary
from pplvm.commands.output.nonfinite_batch import failure_report
from pplvm.commands.output.status_output import print_status
from pplvm.commands.runs.manifest import manifest_of, why_another_program, with_stage
from pplvm.commands.runs.restore_run import restore
from pplvm.commands.runs.run_files import RunFiles, last_checkpoint
from pplvm.data.batches import batches
from pplvm.data.lazy_rows import FileChanged
from pplvm.distributed.collectives import all_gather_rows, all_reduce_mean, any_rank, barrier
from pplvm.distributed.data_parallel import require_equal
from pplvm.distributed.object_collectives import errors_on_all_ranks
from pplvm.distributed.progress import Bar, bar
from pplvm.distributed.ranks import is_first, join, size
from pplvm.evaluation.code_usage import perplexity, share_used
from pplvm.evaluation.training_metrics import TrainingMetrics
from pplvm.networks.counted_codes import CountedCodes
from pplvm.objectives.objective import ObjectiveError
from pplvm.objectives.sites_of_rule import pathwise_notice
from pplvm.particles.contract import ProgramError
from pplvm.training.random_state import seeded
from pplvm.training.signals import StopRequest
from pplvm.training.stepper import NotFinite

__all__ = ["run"]

MOST_SKIPPED = 10
"""Batches that --on-nan skip leaves out before it gives up: more are no accident."""


def run(arguments: argparse.Namespace) -> int:
    """Train until --steps, early stopping or a signal; return 0, or 129, 130 or 143 after a signal."""
    logging.getLogger("pyro").setLevel(logging.WARNING)  # Pyro tells of every plate that it counts
    usable_device(arguments.device)
    with join(arguments.device) as device, StopRequest() as request:
        with errors_on_all_ranks():
            found = last_checkpoint(arguments.resume) if arguments.resume else None
        if found is not None and (reason := why_another_program(found.manifest, arguments)):
            raise ValueError(f"{found.path} cannot be resumed: {reason}")
        plan = build_plan(arguments, device, found)
        manifest = with_stage(manifest_of(arguments, plan.named, plan.epochs.data, size()), plan.stage)
        if found is not None:
            restore(plan, found, manifest)
        if any_rank(request.received is not None):
            print_status("stopped by a signal before the first step: nothing was written")
            return _exit_code(request)
        with errors_on_all_ranks():
            files = RunFiles(arguments, None if found is None else found.step, manifest["run"])
        with files:
            words, told = _train(plan, files, manifest, request)
        print_status(f"{words}; {plan.run.step} steps; run directory {files.directory}")
        if is_first():
            print(told)
        barrier()  # for what the first process writes
        return _exit_code(request)


def _exit_code(request: StopRequest) -> int:
    """The exit code after a signal on any process, the same on all."""
    return int(all_gather_rows(torch.tensor([request.exit_code]), size()).max())


def _train(plan: Plan, files: RunFiles, manifest: dict[str, Any], request: StopRequest) -> tuple[str, str]:
    """Train, and return how the run ended, in short and with its figures."""
    print_status(f"training {plan.arguments.program} under {manifest['objective']}; run directory {files.directory}")
    print_status(f"data: {plan.epochs.data.description(plan.arguments.split)}")
    if plan.pair is not None and (sentence := pathwise_notice(plan.loss, *as_tuple(plan.x))):
        print_status(sentence)
    started, first = time.perf_counter(), plan.run.step
    training = Training(plan, files, manifest)
    words = training.go(request)
    seconds = time.perf_counter() - started
    rate = round((plan.run.step - first) * plan.epochs.size / seconds)
    with errors_on_all_ranks():
        files.write_json("timing.json", {"seconds": round(seconds, 1), "images_per_second": rate})
    is_stopped = any_rank(request.received is not None)
    found = FitOutcome(plan.run.step, seconds, rate, is_stopped, plan.stopping.is_over and not is_stopped)
    return words, fit_summary(found, files.records(), training.value, plan.arguments, files.directory)


class Training:
    """The training loop with validation, records, checkpoints and figures between the steps."""

    def __init__(self, plan: Plan, files: RunFiles, manifest: dict[str, Any]) -> None:
        self.plan, self.files, self.manifest = plan, files, manifest
        self.skipped = 0
        self._told: dict[str, float] = {}
        try:
            self._look = TrainingMetrics(plan.program, plan.x)
        except ProgramError:  # legal for objectives that need no guide
            self._look = None
        self.value = "bound"
        if self._look is not None and self._look.fault:
            self.value = "objective"
            print_status(f"{self._look.fault}; what is trained is recorded as the objective")

    def go(self, request: StopRequest) -> str:
        """Train, and return how the run ended.

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
            is_epoch_over = plan.epochs.position == plan.epochs.length
            if is_epoch_over or is_last:
                self._record_code_usage(is_epoch_over)
            is_looked_at = step % options.validate_every == 0 or is_last
            is_best = is_looked_at and self._validate()
            shown.at(step, self._told)
            if plan.aggressive is not None and is_epoch_over:
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
        """Take one step; with --on-nan skip, on the next batch whose loss and gradient are finite."""
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
                print_status(f"skipped the batch of rows {rows[0]}, {rows[1 % len(rows)]}, ...: {error}")
                for name, buffer in plan.loss.named_buffers():
                    buffer.copy_(before[name])
            except (ProgramError, ObjectiveError, FileChanged):
                raise
            except Exception as error:
                raise RuntimeError(f"step {plan.run.step + 1}: {type(error).__name__}: {error}") from error

    def _buffers(self) -> dict[str, Tensor]:
        """The buffers that a skipped batch must not have updated: running averages, counters."""
        kept = self.plan.loss.named_buffers() if self.plan.arguments.on_nan == "skip" else ()
        return {name: buffer.detach().clone() for name, buffer in kept}

    def _lost(self) -> str | None:
        """The first parameter that is not finite; None if all are."""
        named = self.plan.loss.named_parameters()
        return next((name for name, value in named if not value.detach().isfinite().all()), None)

    def _require_numbers(self) -> None:
        """Refuse to record, validate or save parameters that are not finite on any process."""
        lost = self._lost()
        if any_rank(lost is not None):
            where = "on another process" if lost is None else f"in {lost}"
            error = FloatingPointError(
                f"parameters {where} are not finite: lower the learning rate, or clip the gradient"
            )
            raise self._failed(self.plan.run.step, error)

    def _failed(self, step: int, error: FloatingPointError) -> FloatingPointError:
        """Write the report on a failed step, and say where it is and how to go on."""
        with contextlib.suppress(OSError):  # a full disk must not hide what happened
            self.files.write_json("failure.json", failure_report(self.plan, error))
        run, saved = self.files.directory, self.files.saved_step
        after = "nothing was saved before" if saved is None else f"--resume {run} goes on from step {saved}"
        return FloatingPointError(f"step {step}: {error}; {run}/failure.json tells of the batch, {after}")

    def _record(self) -> None:
        """Record the means over the steps since the last record."""
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
            values |= {
                name: float(all_reduce_mean(torch.tensor(value))) for name, value in self._look(plan.run.x).items()
            }
        self._write_down(values)
        self._tell({name: values[name] for name in (self.value, "rate", "distortion") if name in values} | penalties)

    def _record_code_usage(self, is_epoch_over: bool) -> None:
        """Record how many codes the epoch has used, in all ranks' data; after it, codebooks count anew."""
        modules = self.plan.loss.program.named_modules()
        codebooks = {name: part for name, part in modules if isinstance(part, CountedCodes) and part.training}
        values: dict[str, float] = {}
        for name, codebook in codebooks.items():
            shares, of = codebook.usage(), f"_{name}" if len(codebooks) > 1 else ""
            if float(shares.sum()):  # of one that is trained
                values[f"code_perplexity{of}"] = float(perplexity(shares))
                values[f"codes_used{of}"] = float(share_used(shares))
            if is_epoch_over:
                codebook.start_epoch()
        if values:
            self._write_down(values)

    def _tell(self, figures: dict[str, float]) -> None:
        """Show figures in the progress bar, the most important first."""
        found = self._told | figures
        names = (self.value, "valid", *self.plan.since.penalties, "rate", "distortion")
        self._told = {name: found[name] for name in names if name in found}

    def _write_down(self, values: dict[str, Any]) -> None:
        with errors_on_all_ranks():  # a full disk ends all ranks in its words
            self.files.record(self.plan.run.step, values)

    def _validate(self) -> bool:
        """Evaluate the validation data; return whether the loss is the lowest so far. All ranks see all data."""
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
        every = to_device(self.plan.valid.batch(torch.arange(len(self.plan.valid))), self.plan.device)
        return mutual_information(self.plan.program, without_conditions(every), seed=self.plan.arguments.seed)

    def _draw(self) -> None:
        """Plot the curves so far, if they are due."""
        with errors_on_all_ranks():
            self.files.draw_in_time()

    def _save(self, is_best: bool) -> None:
        self._require_numbers()
        require_equal(self.plan.loss, f"at step {self.plan.run.step}")
        weights, state = self.plan.program.state_dict(), self.plan.run.state_dict()
        with errors_on_all_ranks():
            self.files.save(self.plan.run.step, weights, state, self.manifest, is_best)
