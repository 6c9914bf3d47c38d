"""What a manifest says of data with conditions: other labels are another run."""

import pytest
import torch

from pplvm.commands.runs.manifest import condition_checksums, data_checksum, why_not_resumable
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
