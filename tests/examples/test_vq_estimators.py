"""The table of VQ-VAE's gradient rules, trained for a few steps; its log p(x) is that of `Exact`."""

import json

import pytest
import torch

import pplvm
from examples import vq_estimators
from examples.vq_estimators import RULES, log_p, main
from pplvm.objectives.objective import Loss
from pplvm.programs.vq_vae import vq_vae


def test_log_p_is_exact(monkeypatch):
    monkeypatch.setattr(vq_estimators, "GRID", (1, 3))
    torch.manual_seed(0)
    program, x = vq_vae(6, (1, 3), 4, 2, (5,)), torch.bernoulli(torch.full((7, 6), 0.5))
    with torch.no_grad():
        exact = -Loss(pplvm.Exact(), program)(x)
    for rows in (5, 64, 1000):
        assert float(log_p(program, x, rows).mean()) == pytest.approx(float(exact), abs=1e-10)


def test_runs_are_kept_and_go_on(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(vq_estimators, "K", 4)
    torch.set_default_dtype(torch.float32)
    settings = {"steps": 25, "seconds": 0.1, "tested": 20, "path": str(tmp_path / "rows.jsonl")}
    try:
        first = main(rules="straight-through,rloo", seeds="0", **settings)
        again = main(rules="rloo,rotation", seeds="0", **settings)
    finally:
        torch.set_default_dtype(torch.float64)
    lines = (tmp_path / "rows.jsonl").read_text().splitlines()
    assert len(first) == 4 and len(again) == len(lines) == 6 and again[:4] == first
    for row in map(json.loads, lines):
        assert 0 < row["exact"] <= row["own"] + 1.0 and 1 <= row["perplexity"] <= 4 and row["taken"] >= 25
    assert capsys.readouterr().out.count("rloo") == 2
    assert len(RULES) == 12
