"""EncodedData: batches of what was computed, everything else as of the data."""

import pytest
import torch

from pplvm.commands.runs.manifest import data_checksum
from pplvm.data.encoded import EncodedData
from pplvm.data.epochs import Epochs
from pplvm.data.image_data import ImageData

ROWS = 6


def labelled():
    images = torch.arange(ROWS, dtype=torch.uint8)[:, None]
    return ImageData(images, "toy", levels=ROWS, labels=torch.arange(ROWS) % 2).conditioned("labels")


def test_batches_hold_codes_terms_and_conditions_of_the_same_rows():
    data = labelled()
    encoded = EncodedData(data, 10 * torch.arange(ROWS, dtype=torch.uint8)[:, None], -torch.arange(float(ROWS)))
    plain, coded = Epochs(data, 2, seed=3), Epochs(encoded, 2, seed=3)
    for _ in range(2 * plain.length):
        (x, y), (codes, terms, also) = next(plain), next(coded)
        rows = (x * (ROWS - 1)).round()
        assert torch.equal(codes.to(x.dtype), 10 * rows) and torch.equal(terms, -rows[:, 0].to(terms.dtype))
        assert torch.equal(y, also)
    assert encoded.spec is data.spec and encoded.description() == data.description()
    assert data_checksum(encoded) == data_checksum(data) and len(encoded.to("cpu").encoded) == 2


def test_another_number_of_rows_is_refused():
    with pytest.raises(ValueError, match="has 6 data, and 5 were encoded"):
        EncodedData(labelled(), torch.zeros(5, 1))
