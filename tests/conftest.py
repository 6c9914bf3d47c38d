"""What holds for every test: float64, a fixed seed, validation on, and global state left as it was."""

import os

import matplotlib
import pyro
import pytest
import torch

matplotlib.use("Agg")
torch.set_num_threads(1)  # tensors this small only wait for each other


@pytest.fixture(autouse=True, scope="session")
def no_home(tmp_path_factory):
    """What users have trusted is remembered in a folder of the tests' own, never in the home of who runs them."""
    os.environ["PPLVM_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))


@pytest.fixture(autouse=True)
def known_state():
    """Start from the same state, and end with Pyro's store empty and torch's defaults untouched."""
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    pyro.enable_validation(True)
    yield
    assert not list(pyro.get_param_store().keys()), "a test left parameters in Pyro's global store"
    assert pyro.infer.util.is_validation_enabled(), "a test left validation off"
    assert torch.get_default_dtype() is torch.float64
    assert not pyro.poutine.runtime._PYRO_STACK, "a test left a handler on Pyro's stack"
    torch.set_default_dtype(torch.float32)
