"""Started by test_killed.py: saves in a loop in forked children and kills them; prints what was found as JSON.

python killed.py random|everywhere DIRECTORY
"""

import json
import os
import random
import select
import signal
import struct
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from pplvm.training import atomic_write, checkpoint_format
from pplvm.training.checkpoints import Checkpoints, read_checkpoint, read_latest

OPERATIONS = {"open", "os.mkdir", "os.rename", "os.symlink", "os.remove", "os.rmdir", "shutil.rmtree", "os.listdir"}


class InPlace:
    """The same three files, synced just as well, but written where the last ones stand."""

    def __init__(self, directory):
        self.folder = directory / "checkpoint"
        self.folder.mkdir(exist_ok=True)

    def save(self, *arguments, best=False):
        for name, data in checkpoint_format.encode_checkpoint(*arguments).items():
            atomic_write.write_and_sync(self.folder / name, data)

    def latest(self):
        return read_checkpoint(self.folder) if any(self.folder.iterdir()) else None


SAVERS = {"atomic": Checkpoints, "in-place": InPlace}


def save(checkpoints, step):
    weights = {"w": torch.full((20_000,), float(step))}
    checkpoints.save(step, weights, {"step": step}, {"said": step}, best=step % 5 == 0)


def step_found(saver, directory):
    """The step of what a new process would go on from, -1 for none; all that it holds must be of that step."""
    found = read_latest(directory) if saver is Checkpoints else saver(directory).latest()
    if found is None:
        return -1
    same = found.weights["w"].eq(found.step).all() and found.state["step"] == found.manifest["said"] == found.step
    if not same or found.skipped:
        raise ValueError(f"step {found.step} mixes checkpoints, or skipped {found.skipped}")
    for folder in directory.glob("checkpoints/0*"):
        read_checkpoint(folder)  # what is kept for the day on which the latest is damaged
    return found.step


def unfinished(directory):
    return [path.name for path in directory.rglob(f".*{atomic_write.TEMPORARY}")]


def forked(work):
    """A child that does `work(report)`; its process and the end of the pipe on which its reports arrive."""
    here, there = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(here)
            work(lambda step: os.write(there, struct.pack("<q", step)))
            os._exit(0)
        finally:
            os._exit(1)  # after an exception
    os.close(there)
    return child, here


def last_report(pipe, default):
    data = b""
    while part := os.read(pipe, 2**16):
        data += part
    os.close(pipe)
    return struct.unpack("<q", data[-8:])[0] if data else default


def kill_at_random(saver, directory, kills):
    """Every child goes on where the last one was killed; how many kills left a checkpoint that fails, or a half one."""
    draw, failures, cut = random.Random(0), [], 0
    known = -1

    def work(report):
        checkpoints = saver(directory)
        step = step_found(saver, directory)
        while True:
            step += 1
            save(checkpoints, step)
            report(step)

    for _ in range(kills):
        child, pipe = forked(work)
        select.select([pipe], [], [], 10)
        time.sleep(draw.uniform(0, 0.02))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        known = max(known, last_report(pipe, known))
        cut += bool(unfinished(directory))
        try:
            if (step := step_found(saver, directory)) < known:
                failures.append(f"step {step} after {known} was reported")
        except ValueError as error:
            failures.append(str(error))
            break  # there is nothing to go on from
    return {"failures": failures, "cut": cut, "steps": known}


def kill_everywhere(saver, directory, kills):
    """Killed at the first operation on the disk, at the second, ... of a save; then all that a next run does."""
    failures, n = [], 0
    while n < kills:
        n += 1
        here = directory / str(n)
        here.mkdir()
        known = 0
        child, pipe = forked(lambda report, here=here: [save(saver(here), step) for step in (3, 4)])
        os.waitpid(child, 0)
        os.close(pipe)
        child, pipe = forked(lambda report, here=here, n=n: (armed(n), save(saver(here), 5), report(5)))
        status = os.waitpid(child, 0)[1]
        known = last_report(pipe, 4)
        try:
            if (step := step_found(saver, here)) < known:
                failures.append(f"operation {n}: step {step} after {known} was reported")
            checkpoints = saver(here)
            save(checkpoints, 6)
            if step_found(saver, here) != 6 or unfinished(here):
                failures.append(f"operation {n}: the next run found {unfinished(here)}")
        except ValueError as error:
            failures.append(f"operation {n}: {error}")
        if not os.WIFSIGNALED(status):
            failures += [] if known == 5 else ["the save that nobody killed failed"]
            break
    return {"failures": failures, "operations": n - 1}


def armed(n):
    """From now on the n-th operation on the disk is not done: the process is killed before it."""
    left = n

    def count(event, arguments):
        nonlocal left
        if event in OPERATIONS and not str(arguments[0]).endswith(".py"):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sync = os.fsync

    def counted_sync(descriptor):
        count("open", ("fsync",))
        sync(descriptor)

    os.fsync = counted_sync
    sys.addaudithook(count)


if __name__ == "__main__":
    torch.set_num_threads(1)
    kill, kills = {"random": (kill_at_random, 100), "everywhere": (kill_everywhere, 200)}[sys.argv[1]]
    found = {}
    for name, saver in SAVERS.items():
        place = Path(sys.argv[2], name)
        place.mkdir()
        found[name] = kill(saver, place, kills)
    print(json.dumps(found))
