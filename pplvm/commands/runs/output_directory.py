"""The output directory of a command: new, empty, or from the same command and replaced by --overwrite."""

import os
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["COMPARISON", "EVALUATION", "RUN", "SAMPLES", "Kind", "clear", "open_output", "refuse_links", "refuse_taken"]


@dataclass(frozen=True)
class Kind:
    """The files that one command writes into its directory.

    Arguments:
        command: its name.
        names: of all that it writes, relative to the directory, folders with a slash at the end.
        links: those of them that are links.
        is_one: whether a directory with nothing but such names was written by the command.
        is_void: whether nothing in such a directory is worth keeping, so that it is replaced without being asked.
    """

    command: str
    names: re.Pattern[str]
    is_one: Callable[[Path], bool]
    links: re.Pattern[str] = re.compile("(?!)")
    is_void: Callable[[Path], bool] = lambda directory: False


def open_output(directory: Path, kind: Kind, overwrite: bool) -> Path:
    """Create a directory, or empty it.

    Raises:
        ValueError: as `refuse_taken`. OSError: it cannot be made.
    """
    refuse_taken(directory, kind, overwrite)
    directory.mkdir(parents=True, exist_ok=True)
    clear(directory)
    return directory


def refuse_taken(directory: Path, kind: Kind, overwrite: bool) -> None:
    """Refuse a directory with files of another command, or without leave to replace; nothing is changed.

    Raises:
        ValueError: it exists and --overwrite is not given, or it is a link, or holds anything else.
    """
    if directory.is_symlink():
        raise ValueError(f"{directory} is a link, and none is followed: name the directory itself with --output")
    if not directory.exists():
        return
    if not directory.is_dir():
        raise ValueError(f"{directory} is a file: name another directory with --output")
    if not any(directory.iterdir()):
        return
    is_one = kind.is_one(directory)
    if not overwrite and not (is_one and kind.is_void(directory)):
        going_on = f"go on with it by --resume {directory}, " if kind is RUN else ""
        advice = f"{going_on}replace it by --overwrite, or name another" if is_one else "name another directory"
        raise ValueError(f"{directory} exists: {advice} with --output")
    for name, path in _held(directory):
        if not kind.names.fullmatch(name) or (path.is_symlink() and not kind.links.fullmatch(name)):
            raise ValueError(
                f"{directory} holds {name.rstrip('/')!r}, which no pplvm {kind.command} wrote: name another directory "
                "with --output"
            )
    if not is_one:
        raise ValueError(f"{directory} was not written by pplvm {kind.command}: name another directory with --output")


def refuse_links(directory: Path, kind: Kind) -> None:
    """Refuse to resume in a directory where a symbolic link replaces a file or folder that is written.

    Raises:
        ValueError: it does.
    """
    for name, path in _held(directory):
        in_place = kind.names.fullmatch(name) or kind.names.fullmatch(f"{name}/")
        if path.is_symlink() and in_place and not kind.links.fullmatch(name):
            raise ValueError(f"{path} is a link, where pplvm {kind.command} writes: put what it leads to there")


def clear(directory: Path, keep: Collection[str] = ()) -> None:
    """Remove everything in a directory but the named files; symbolic links themselves, not their targets.

    Arguments:
        keep: names relative to the directory, with those of the folders that they are in.
    """
    for folder, folders, files in os.walk(directory, topdown=False):
        for path in (Path(folder, name) for name in [*folders, *files]):
            if path.relative_to(directory).as_posix() not in keep:
                path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()


def _held(directory: Path) -> Iterator[tuple[str, Path]]:
    """Relative names of everything below a directory, folders with a slash at the end; links are not followed."""
    for folder, folders, files in os.walk(directory):
        for path in (Path(folder, name) for name in sorted([*folders, *files])):
            is_folder = path.is_dir() and not path.is_symlink()
            yield path.relative_to(directory).as_posix() + ("/" if is_folder else ""), path


def _is_comparison(directory: Path) -> bool:
    path = directory / "config.yaml"
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return file.read(len(COMPARED)) == COMPARED


COMPARED = b"command: compare\n"
"""How the configuration of a comparison begins."""

PICTURES = r"(samples|draws|reconstructions|interpolation-[^/]+|traversal-[^/]+)\.png"

EVALUATED = rf"evaluation\.(json|nc)|report\.html|(convergence|factors)\.png|{PICTURES}"

SAMPLED = rf"samples\.npz|{PICTURES}"

RUN = Kind(
    "fit",
    re.compile(
        r"config\.yaml|metrics\.(jsonl|csv)|curves\.png|model\.safetensors|state\.pt|(manifest|failure|timing)\.json"
        r"|figures/(curves\.png)?|tensorboard/(events\.[^/]+)?|checkpoints/(\.lock|latest|best)?"
        r"|checkpoints/\d{8,}(\.\d+)?/(model\.safetensors|state\.pt|manifest\.json)?|(.+/)?\.[^/]+\.new(/.*)?"
        rf"|evaluation-(train|valid|test)/({EVALUATED})?|samples/({SAMPLED})?"  # of the run, by the other commands
    ),
    is_one=lambda directory: (directory / "checkpoints").is_dir(),
    links=re.compile(r"model\.safetensors|state\.pt|manifest\.json|checkpoints/(latest|best)|(.+/)?\.[^/]+\.new"),
    is_void=lambda directory: not any((directory / "checkpoints").glob("[0-9]*")),
)

COMPARISON = Kind(
    "compare",
    re.compile(
        r"config\.yaml|metrics\.csv|gradients\.nc|report\.html|overview\.png|[\w.-]+/"
        r"|([\w.-]+/)?(work|snr|forest|correlation|weights)\.png"
    ),
    is_one=_is_comparison,
)

EVALUATION = Kind(
    "evaluate",
    re.compile(EVALUATED),
    is_one=lambda directory: (directory / "evaluation.json").is_file(),
)

SAMPLES = Kind("sample", re.compile(SAMPLED), is_one=lambda directory: (directory / "samples.npz").is_file())
