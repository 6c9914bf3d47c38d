"""What a manifest says of data with conditions: other labels are another run."""

from argparse import Namespace

import pytest
import torch

from pplvm.commands.runs.manifest import condition_checksums, data_checksum, why_another_program, why_not_resumable
from pplvm.data.image_data import ImageData

ROWS, LABELS = torch.arange(12.0).reshape(6, 2), torch.tensor([0, 1, 2, 0, 1, 2])
DATA = ImageData(ROWS, "toy", None, LABELS)


def manifest(data):
    return {"data": {"name": "toy", "sha256": data_checksum(data)}} | (
        {"conditions": condition_checksums(data)} if data.conditions else {}
    )


def test_x_alone_has_the_checksum_that_it_had():
    assert (
        data_checksum(DATA) == data_checksum(ImageData(ROWS, "toy", None)) != data_checksum(ImageData(-ROWS, "", None))
    )
    assert data_checksum(DATA.conditioned("labels")) != data_checksum(DATA)
    assert data_checksum(ImageData(ROWS.reshape(6, 1, 2), "toy", None).with_channel()) == data_checksum(DATA)


@pytest.mark.parametrize(
    "other",
    [
        DATA,
        DATA.with_known_labels(3).conditioned("labels"),
        ImageData(ROWS, "toy", None, LABELS.flip(0)).conditioned("labels"),
        DATA.conditioned("labels", torch.ones(6)),
    ],
)
def test_other_labels_are_no_run_to_go_on_with(other):
    mine = DATA.conditioned("labels")
    assert why_not_resumable(manifest(mine), manifest(mine)) is None
    for there, here in ((mine, other), (other, mine)):
        assert "it was saved with another --condition, --known-labels or other labels" in why_not_resumable(
            manifest(there), manifest(here)
        )


def test_other_data_of_the_same_labels_are_told_and_not_refused():
    moved = ImageData(-ROWS, "toy", None, LABELS)
    assert why_not_resumable(manifest(DATA.conditioned("labels")), manifest(moved.conditioned("labels"))) is None


@pytest.mark.parametrize(
    ("there", "name", "words"),
    [
        ("pplvm.programs.hierarchical_vae:HierarchicalVAE", "hierarchical-vae", None),  # a function, which makes it
        ("pplvm.programs.vae:VAE", "vae", None),
        ("pplvm.programs.vae:VAE", "ppca", "program is pplvm.programs.vae:VAE there"),
        ("pplvm.programs.vae:VAE", "my_module:Mine", None),
    ],
)
def test_a_name_for_a_function_is_no_other_program(there, name, words):
    found = why_another_program({"program": there, "settings": {}}, Namespace(program=name, set=[]))
    assert found is None if words is None else words in found
    other = why_another_program({"program": there, "settings": {}}, Namespace(program=name, set=["a=1"]))
    assert (other is None) is (":" in name)
