"""Whatever is computed, computed twice: on the CPU and on an accelerator."""

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.pretend_device import host_noise, pretend_device

CLOSE = {torch.float64: 1e-7, torch.float32: 1e-3}
"""Relative differences between the CPU and CUDA."""


class Accelerator:
    """A device other than the CPU, which is there within `with`.

    Arguments:
        kind: "pretend" or "cuda".
    """

    def __init__(self, kind: str) -> None:
        self.is_pretend = kind == "pretend"

    @contextlib.contextmanager
    def __call__(self):
        with pretend_device() if self.is_pretend else host_noise() as given:
            yield given if self.is_pretend else torch.device("cuda", 0)

    def same(self, function: Callable[[torch.device], Any]) -> Any:
        """What a function of the device gives on the CPU, after its results on the accelerator were held against it.

        The numbers are the same bits on the pretend device, and close on CUDA, as the default precision has it. The
        random stream starts from the same seed for both.
        """
        torch.manual_seed(7)
        expected = function(torch.device("cpu"))
        with self() as device:
            torch.manual_seed(7)
            found = on_host(function(device))
        rtol = 0.0 if self.is_pretend else CLOSE[torch.get_default_dtype()]
        tolerance = {"rtol": rtol, "atol": rtol / 100}
        compare(found, on_host(expected), tolerance, "result")
        return expected


def on_host(found: Any) -> Any:
    """Nested results with every tensor on the CPU; a dataclass and whatever else has attributes as a dictionary."""
    if isinstance(found, Tensor):
        return found.detach().cpu()
    if isinstance(found, nn.Module) or callable(found):
        return None
    if dataclasses.is_dataclass(found):
        return {field.name: on_host(getattr(found, field.name)) for field in dataclasses.fields(found)}
    if isinstance(found, Mapping):
        return {name: on_host(value) for name, value in found.items()}
    return [on_host(value) for value in found] if isinstance(found, list | tuple) else found


def compare(found: Any, expected: Any, tolerance: dict[str, float], where: str) -> None:
    """Raise where nested results differ."""
    assert type(found) is type(expected), where
    if isinstance(found, Tensor):
        message = lambda text: f"{where}: {text}"
        torch.testing.assert_close(found, expected, **tolerance, equal_nan=True, msg=message)
    elif isinstance(found, dict | list):
        assert len(found) == len(expected), where
        for name in found if isinstance(found, dict) else range(len(found)):
            compare(found[name], expected[name], tolerance, f"{where}[{name!r}]")
    elif isinstance(found, float):
        assert found == pytest.approx(expected, rel=tolerance["rtol"], abs=tolerance["atol"], nan_ok=True), where
    else:
        assert found == expected or tolerance["rtol"], where


def gradients(loss: nn.Module, device: torch.device) -> dict[str, Tensor]:
    """The gradient of each parameter, all on the device."""
    found = {name: p.grad for name, p in loss.named_parameters() if p.grad is not None}
    assert found and {each.device.type for each in found.values()} == {device.type}
    return found
