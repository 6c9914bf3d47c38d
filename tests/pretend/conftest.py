"""The accelerator of these tests: the pretend one, or CUDA by `pytest tests/pretend -m gpu`."""

import pytest
import torch

from tests.pretend.accelerator import Accelerator


@pytest.fixture(params=["pretend", pytest.param("cuda", marks=pytest.mark.gpu)])
def accelerator(request):
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("torch finds no CUDA device here")
    return Accelerator(request.param)
