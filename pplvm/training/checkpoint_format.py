"""The format of a checkpoint: safetensors weights, a torch state, and a JSON manifest with their checksums.

Reading goes the other way with growing trust: the sizes, the checksums, the form, and only then the values.
"""

__all__ = ["MANIFEST", "OTHER", "STATE", "WEIGHTS", "decode_checkpoint", "encode_checkpoint"]

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from pplvm.training.plain_state import plain_state, plain_tensor

WEIGHTS, STATE, MANIFEST = "model.safetensors", "state.pt", "manifest.json"
FORMAT = 1
OWN = ("format", "step", "files", "sha256")  # what the manifest says beside what it was given
LARGEST_MANIFEST = 2**24  # bytes: hundreds of thousands of parameters fit, a bomb does not


def encode_checkpoint(
    step: int, weights: Mapping[str, Tensor], state: dict[Any, Any], manifest: Mapping[str, Any]
) -> dict[str, bytes]:
    """Encode the three files of a checkpoint by name, the manifest last; equal arguments give equal bytes.

    Raises:
        TypeError: something cannot be saved so that it can be read back. ValueError: the step is negative, or
            the manifest has a key that is the checkpoint's own.
    """
    if not isinstance(step, int) or step < 0:
        raise ValueError(f"step must be a whole number of at least 0, got {step!r}")
    if not isinstance(state, dict):
        raise TypeError(f"state must be a dict, got {type(state).__name__}")
    files = {WEIGHTS: _encoded_weights(weights), STATE: _encoded_state(state)}
    digests = {name: {"bytes": len(data), "sha256": _sha256(data)} for name, data in files.items()}
    if taken := [name for name in OWN if name in manifest]:
        raise ValueError(f"manifest[{taken[0]!r}] is the checkpoint's own: name yours otherwise")
    try:
        given = json.loads(_text(manifest))  # as it will be read: lists for tuples, names for numbers
    except (TypeError, ValueError) as error:
        raise TypeError(f"the manifest is not JSON: {error}") from error
    own = {"format": FORMAT, "step": step, **given, "files": digests}
    return {**files, MANIFEST: _text(own | {"sha256": _sha256(_text(own))})}


def decode_checkpoint(folder: Path) -> tuple[int, dict[str, Tensor], dict[Any, Any], dict[str, Any]]:
    """Verify and decode a checkpoint's folder: step, weights, state and manifest.

    Raises:
        ValueError: a file is missing, damaged or no such file, or holds more than tensors and primitives.
    """
    manifest = _parsed_manifest(folder / MANIFEST)
    digests = manifest["files"]
    data = {name: _verified(folder / name, digests[name]) for name in (WEIGHTS, STATE)}
    weights = _parsed_weights(folder / WEIGHTS, data[WEIGHTS])
    state = _parsed_state(folder / STATE, data[STATE])
    return manifest["step"], weights, state, {k: v for k, v in manifest.items() if k not in OWN}


def _encoded_weights(weights: Mapping[str, Tensor]) -> bytes:
    own = {name: plain_tensor(value, f"weights[{name!r}]") for name, value in weights.items()}  # tied ones: twice
    try:
        return safetensors.torch.save(own, metadata={"format": "pt"})
    except KeyError as error:
        name = next(name for name, value in own.items() if value.dtype == error.args[0])
        raise TypeError(f"weights[{name!r}] is of {error}, which safetensors cannot hold: cast it") from error


def _encoded_state(state: dict[Any, Any]) -> bytes:
    file = io.BytesIO()
    try:
        torch.save(plain_state(state, "state"), file)
    except RecursionError as error:
        raise TypeError("state is nested too deeply, or holds itself") from error
    return file.getvalue()


def _parsed_manifest(path: Path) -> dict[str, Any]:
    data = _bytes_of(path, at_most=LARGEST_MANIFEST)
    try:
        found = json.loads(data, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged, not JSON ({error}): {OTHER}") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ValueError(f"{path} is no manifest of format {FORMAT}, the one that is read here: {OTHER}")
    if _sha256(_text({name: value for name, value in found.items() if name != "sha256"})) != found.get("sha256"):
        raise ValueError(f"{path} is damaged, its sha256 is not its own: {OTHER}")
    digests = found.get("files")
    if not (isinstance(digests, dict) and all(_is_digest(digests.get(name)) for name in (WEIGHTS, STATE))):
        raise ValueError(f"{path} does not give the bytes and sha256 of {WEIGHTS} and {STATE}: {OTHER}")
    if type(found.get("step")) is not int or not 0 <= found["step"] < 2**63:
        raise ValueError(f"{path} gives no step: {OTHER}")
    return found


OTHER = "use another checkpoint"


def _is_digest(digest: Any) -> bool:
    return isinstance(digest, dict) and type(digest.get("bytes")) is int and type(digest.get("sha256")) is str


def _verified(path: Path, digest: dict[str, Any]) -> bytes:
    """The bytes of a file, checked against the manifest's size and sha256."""
    data = _bytes_of(path, at_most=digest["bytes"])
    if len(data) < digest["bytes"]:
        raise ValueError(f"{path} is cut short, {len(data)} of {digest['bytes']} bytes are there: {OTHER}")
    if _sha256(data) != digest["sha256"]:
        raise ValueError(f"{path} is damaged, its sha256 is not the manifest's: {OTHER}")
    return data


def _parsed_weights(path: Path, data: bytes) -> dict[str, Tensor]:
    try:
        return dict(sorted(safetensors.torch.load(data).items()))
    except Exception as error:  # whatever a parser makes of bytes that someone else may have written
        raise ValueError(f"{path} is no safetensors file, and nothing else is read ({error}): {OTHER}") from error


def _parsed_state(path: Path, data: bytes) -> dict[Any, Any]:
    """Parse with torch's restricted unpickler, which makes tensors and primitives only."""
    try:
        entries = zipfile.ZipFile(io.BytesIO(data)).infolist()
        if sum(entry.file_size for entry in entries) > len(data):
            raise ValueError("it unpacks to more than its size")
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        _require_held(state, len(data))
    except Exception as error:  # as above
        raise ValueError(
            f"{path} does not hold plain tensors and numbers ({_reason(error)}): it may be made to run code, which was "
            f"not run; {OTHER}"
        ) from error
    if not isinstance(state, dict):
        raise ValueError(f"{path} holds a {type(state).__name__}, not a dict: {OTHER}")
    return state


def _require_held(value: Any, size: int) -> None:
    """Refuse a tensor without dense values, or with more values than a file of `size` bytes can hold.

    Raises:
        ValueError: there is one.
    """
    if isinstance(value, Tensor):
        if value.layout is not torch.strided or value.is_quantized or value.is_meta:
            raise ValueError("a tensor has no dense values")
        if value.numel() * value.element_size() > size:
            raise ValueError(f"a tensor of shape {tuple(value.shape)} is larger than the file")
    elif isinstance(value, dict | list | tuple):
        for each in value.values() if isinstance(value, dict) else value:
            _require_held(each, size)


def _reason(error: Exception) -> str:
    """The message of torch without its advice on how to run the code after all."""
    if named := re.search(r"GLOBAL (\S+)", str(error)):
        return f"it asks for {named[1]}"
    inner = re.search(r"WeightsUnpickler error: *(.+)", str(error))
    return inner[1] if inner else str(error).partition("\n")[0]


def _bytes_of(path: Path, at_most: int) -> bytes:
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise ValueError(f"{path} is no file: {OTHER}")
        if size > at_most:
            raise ValueError(f"{path} has {size} bytes, and {at_most} are the most that belong there: {OTHER}")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ValueError(f"{path} is missing: {OTHER}") from error
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}): {OTHER}") from error


def _text(manifest: Mapping[str, Any]) -> bytes:
    return f"{json.dumps(manifest, indent=1, allow_nan=False)}\n".encode()


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no JSON number")


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
