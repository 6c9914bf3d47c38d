"""Files that are damaged, forged or hostile are refused in a sentence, and no code of them is run."""

import hashlib
import io
import json
import os
import pickle
import random
import struct
import zipfile

import pytest
import torch
from torch import nn

from pplvm.training.checkpoint_format import MANIFEST, STATE, WEIGHTS, decode_checkpoint, encode_checkpoint

WEIGHTS_OF_ALL_KINDS = {
    "tied.a": torch.eye(3),
    "number": torch.tensor(2.5),
    "empty": torch.zeros(0, 2),
    "half": torch.ones(2, dtype=torch.bfloat16),
    "count": torch.tensor([2**40]),
    "mask": torch.tensor([True, False]),
    "transposed": torch.arange(6.0).reshape(2, 3).T,
}
WEIGHTS_OF_ALL_KINDS["tied.b"] = WEIGHTS_OF_ALL_KINDS["tied.a"]
STATE_HELD = {"optimizer": {"state": {0: {"average": torch.arange(5.0)}}, "lr": [0.1]}, "noise": torch.get_rng_state()}


@pytest.fixture
def folder(tmp_path):
    for name, data in encode_checkpoint(7, WEIGHTS_OF_ALL_KINDS, STATE_HELD, {"seed": 3}).items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


def signed(said):
    text = json.dumps({name: value for name, value in said.items() if name != "sha256"}, indent=1)
    said["sha256"] = hashlib.sha256(f"{text}\n".encode()).hexdigest()
    return json.dumps(said).encode()


def forge(folder, name, data):
    """Put `data` in a file's place, with a manifest that vouches for it."""
    (folder / name).write_bytes(data)
    said = json.loads((folder / MANIFEST).read_bytes())
    said["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / MANIFEST).write_bytes(signed(said))


def test_it_comes_back(folder):
    step, weights, state, manifest = decode_checkpoint(folder)
    assert (step, manifest) == (7, {"seed": 3})
    assert list(weights) == sorted(WEIGHTS_OF_ALL_KINDS)
    for name, value in WEIGHTS_OF_ALL_KINDS.items():
        assert weights[name].dtype == value.dtype and torch.equal(weights[name], value)
    assert state["optimizer"]["lr"] == [0.1] and torch.equal(state["noise"], STATE_HELD["noise"])


def test_tied_weights_load_into_the_module_that_ties_them(tmp_path):
    net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    net[1].weight = net[0].weight
    for name, data in encode_checkpoint(0, net.state_dict(), {}, {}).items():
        (tmp_path / name).write_bytes(data)
    before = net[0].weight.detach().clone()
    nn.init.zeros_(net[0].weight)
    net.load_state_dict(decode_checkpoint(tmp_path)[1])
    assert net[0].weight is net[1].weight and torch.equal(net[1].weight, before)


def test_the_manifest_says_what_it_was_given_and_vouches_for_the_files(folder):
    said = json.loads((folder / MANIFEST).read_bytes())
    assert (said["format"], said["step"], said["seed"]) == (1, 7, 3)
    for name in (WEIGHTS, STATE):
        data = (folder / name).read_bytes()
        assert said["files"][name] == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def test_other_libraries_read_the_weights(folder):
    from safetensors import safe_open

    with safe_open(folder / WEIGHTS, "numpy") as file:
        assert file.metadata() == {"format": "pt"} and file.get_tensor("transposed").shape == (3, 2)


@pytest.mark.parametrize("name", [WEIGHTS, STATE, MANIFEST])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(ValueError, match=f"{name} is missing: use another checkpoint"):
        decode_checkpoint(folder)


@pytest.mark.parametrize("name", [WEIGHTS, STATE, MANIFEST])
def test_a_folder_in_a_file_s_place_is_named(folder, name):
    (folder / name).unlink()
    (folder / name).mkdir()
    with pytest.raises(ValueError, match=f"{name} is no file"):
        decode_checkpoint(folder)


@pytest.mark.parametrize("name, sentence", [(WEIGHTS, "is cut short, "), (STATE, "is cut short, "), (MANIFEST, "")])
def test_a_file_cut_anywhere_is_named(folder, name, sentence):
    whole = (folder / name).read_bytes()
    for length in {0, 1, 8, len(whole) // 2, len(whole) - 2}:
        (folder / name).write_bytes(whole[:length])
        with pytest.raises(ValueError, match=f"{name} {sentence}"):
            decode_checkpoint(folder)


@pytest.mark.parametrize("name", [WEIGHTS, STATE, MANIFEST])
def test_any_flipped_bit_is_seen(folder, name):
    whole, draw = (folder / name).read_bytes(), random.Random(0)
    for _ in range(50):
        flipped = bytearray(whole)
        flipped[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        (folder / name).write_bytes(flipped)
        with pytest.raises(ValueError, match=f"{name} is damaged, |{MANIFEST} is no manifest of format"):
            decode_checkpoint(folder)


def test_a_file_that_grew_is_seen_unread(folder):
    with open(folder / STATE, "ab") as file:
        file.truncate(10**12)  # a hole, of no size on the disk
    with pytest.raises(ValueError, match=f"{STATE} has 1000000000000 bytes, and .* are the most that belong there"):
        decode_checkpoint(folder)


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def zipped(payload):
    file = io.BytesIO()
    torch.save({"state": payload}, file)
    return file.getvalue()


def before_zip(payload):
    file = io.BytesIO()
    torch.save({"state": payload}, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


DISGUISES = {"pickle": lambda payload: pickle.dumps({"state": payload}), "torch": zipped, "old torch": before_zip}


@pytest.mark.parametrize("disguise", DISGUISES.values(), ids=DISGUISES)
@pytest.mark.parametrize("name, sentence", [(STATE, "does not hold plain tensors"), (WEIGHTS, "is no safetensors")])
@pytest.mark.parametrize("variable", ["", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"])
def test_a_pickle_that_runs_code_is_refused_and_does_not_run(folder, disguise, name, sentence, variable, monkeypatch):
    canary = folder / "canary"
    forge(folder, name, disguise(Payload(canary)))
    if variable:
        monkeypatch.setenv(variable, "1")
    with pytest.raises(ValueError, match=f"{name} {sentence}"):
        decode_checkpoint(folder)
    assert not canary.exists()


def test_the_same_pickle_runs_where_it_is_trusted(folder):
    torch.load(io.BytesIO(zipped(Payload(folder / "canary"))), weights_only=False)
    assert (folder / "canary").exists()


def test_the_reason_names_what_it_asks_for_and_not_how_to_run_it(folder):
    forge(folder, STATE, zipped(Payload(folder / "canary")))
    with pytest.raises(ValueError, match="it asks for posix.system") as caught:
        decode_checkpoint(folder)
    assert "weights_only" not in str(caught.value) and "\n" not in str(caught.value)


def bomb():
    """An archive of torch's that unpacks to a thousand times its size."""
    file, large = io.BytesIO(), io.BytesIO()
    torch.save({"zeros": torch.zeros(10**6)}, large)
    with zipfile.ZipFile(large) as old, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
    return file.getvalue()


def scripted():
    file = io.BytesIO()
    torch.save(torch.zeros(2), file)
    return file.getvalue()


STATES = {
    "no archive": (b"what", "does not hold plain tensors and numbers"),
    "an empty archive": (b"PK\x05\x06" + 18 * b"\0", "does not hold plain tensors and numbers"),
    "a bomb": (bomb(), "it unpacks to more than its size"),
    "a tensor": (scripted(), "holds a Tensor, not a dict"),
}


@pytest.mark.parametrize("data, sentence", STATES.values(), ids=STATES)
def test_a_state_that_is_none_is_refused(folder, data, sentence):
    forge(folder, STATE, data)
    with pytest.raises(ValueError, match=f"{STATE} .*{sentence}"):
        decode_checkpoint(folder)


def with_header(header, body=b"0000"):
    data = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(data)) + data + body


def described(dtype, shape, end=4):
    return {"a": {"dtype": dtype, "shape": shape, "data_offsets": [0, end]}}


TENSOR_FILES = {
    "nothing": b"",
    "a header longer than the file": struct.pack("<Q", 2**62) + b"{}",
    "a header of negative length": b"\xff" * 8 + b"{}",
    "a header nested deeply": with_header(b"[" * 100_000),
    "an unknown dtype": with_header(described("Q7", [1])),
    "a dtype that torch lacks": with_header(described("F4", [2], 1), b"0"),
    "a shape that overflows": with_header(described("F32", [2**40, 2**40])),
    "a negative shape": with_header(described("F32", [-1])),
    "a shape beyond 63 bits": with_header(described("F32", [0, 2**63], 0), b""),
    "offsets beyond the file": with_header(described("F32", [4], 16)),
}


@pytest.mark.parametrize("data", TENSOR_FILES.values(), ids=TENSOR_FILES)
def test_a_tensor_file_that_is_none_is_refused(folder, data):
    forge(folder, WEIGHTS, data)
    with pytest.raises(ValueError, match=f"{WEIGHTS} is no safetensors file, and nothing else is read"):
        decode_checkpoint(folder)


SEALS = {name: {"bytes": 4, "sha256": "0"} for name in (WEIGHTS, STATE)}
MANIFESTS = {
    "no JSON": (b"{", "is damaged, not JSON"),
    "no text": (b"\xff\xfe\xfa", "is damaged, not JSON"),
    "nested deeply": (b"[" * 10**6, "is damaged, not JSON"),
    "a number without end": (b"9" * 10**5, "is damaged, not JSON"),
    "not a number": (b'{"format": 1, "x": NaN}', "NaN is no JSON number"),
    "a list": (b"[1]", "is no manifest of format 1"),
    "of a later format": (b'{"format": 2}', "is no manifest of format 1"),
    "without files": (signed({"format": 1, "step": 1}), "does not give the bytes and sha256"),
    "changed by hand": (b'{"format": 1, "step": 1, "sha256": "0"}', "is damaged, its sha256 is not its own"),
    "files of another type": (signed({"format": 1, "step": 1, "files": [1, 2]}), "does not give the bytes and sha256"),
    "without a step": (signed({"format": 1, "files": SEALS}), "gives no step"),
    "before the first step": (signed({"format": 1, "files": SEALS, "step": -1}), "gives no step"),
    "larger than any": (b" " * (2**24 + 1), "bytes, and 16777216 are the most that belong there"),
}


@pytest.mark.parametrize("data, sentence", MANIFESTS.values(), ids=MANIFESTS)
def test_a_manifest_that_is_none_is_refused(folder, data, sentence):
    (folder / MANIFEST).write_bytes(data)
    with pytest.raises(ValueError, match=f"{MANIFEST} .*{sentence}"):
        decode_checkpoint(folder)


@pytest.mark.parametrize("name", [WEIGHTS, STATE])
def test_forged_bytes_give_values_or_a_sentence(folder, name):
    whole, draw, refused = (folder / name).read_bytes(), random.Random(1), 0
    for _ in range(60):
        forged = bytearray(whole)
        for _ in range(draw.randint(1, 4)):
            forged[draw.randrange(min(len(whole), 900))] = draw.randrange(256)
        forge(folder, name, bytes(forged))
        try:
            decode_checkpoint(folder)
        except ValueError as error:
            assert name in str(error)
            refused += 1
    assert refused > 20


NOT_SAVED = {
    "a negative step": ((-1, {}, {}, {}), ValueError, "step must be a whole number of at least 0, got -1"),
    "half a step": ((0.5, {}, {}, {}), ValueError, "step must be a whole number of at least 0, got 0.5"),
    "a state of another type": ((0, {}, [1], {}), TypeError, "state must be a dict, got list"),
    "an object": ((0, {}, {"a": [object()]}, {}), TypeError, r"state\['a'\]\[0\] is a object"),
    "a dtype": (
        (0, {"a": torch.zeros(1, dtype=torch.complex128)}, {}, {}),
        TypeError,
        r"weights\['a'\] is of torch.complex128, which safetensors cannot hold",
    ),
    "a number as weights": ((0, {"a": 1.0}, {}, {}), TypeError, r"weights\['a'\] is a float"),
    "a taken name": ((0, {}, {}, {"files": 1}), ValueError, r"manifest\['files'\] is the checkpoint's own"),
    "no JSON": ((0, {}, {}, {"a": {1}}), TypeError, "the manifest is not JSON: .*set"),
    "NaN": ((0, {}, {}, {"a": float("nan")}), TypeError, "the manifest is not JSON"),
}


@pytest.mark.parametrize("given, kind, sentence", NOT_SAVED.values(), ids=NOT_SAVED)
def test_what_could_not_be_read_back_is_not_saved(given, kind, sentence):
    with pytest.raises(kind, match=sentence):
        encode_checkpoint(*given)


def test_a_manifest_comes_back_as_json_has_it(folder):
    for name, data in encode_checkpoint(0, {}, {}, {"a": (1, 2.5), 3: None, "3": "é", "b": 1e-300}).items():
        (folder / name).write_bytes(data)
    assert decode_checkpoint(folder)[3] == {"a": [1, 2.5], "3": "é", "b": 1e-300}


def test_a_state_that_holds_itself_is_not_saved():
    state = {}
    state["a"] = [state]
    with pytest.raises(TypeError, match="state is nested too deeply, or holds itself"):
        encode_checkpoint(0, {}, state, {})
