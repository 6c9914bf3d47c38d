"""All that is asked in one go: of a tensor, or of a data set as it stands."""

import torch

from pplvm.data.binarization import binarize
from pplvm.data.images import digits
from pplvm.evaluation.evaluate import evaluate
from pplvm.programs.vae import VAE


def test_a_data_set_is_evaluated_as_its_rows_are():
    torch.set_default_dtype(torch.float32)
    try:
        data, program = binarize(digits("valid"), "static"), VAE(64, latent_size=2, hidden_sizes=(5,))
        found = [evaluate(program, x, ks=(1, 5)) for x in (data, data.rows(torch.arange(200)))]
    finally:
        torch.set_default_dtype(torch.float64)
    assert found[0].sections == found[1].sections and len(found[0].per_datum["log_p"]) == 200
