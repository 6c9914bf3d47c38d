"""All scores together: as each by itself, with what they depend on beside them."""

import pytest

from pplvm.evaluation.disentanglement.mutual_information import mutual_information_gap
from pplvm.evaluation.disentanglement.scores import disentanglement
from tests.evaluation.known_codes import grid


def test_all_scores_and_their_circumstances():
    factors = grid(3, 4, times=40)
    codes = factors.double().flip(1)
    found = disentanglement(codes, factors, factor_names=("shape", "x"), bins=12)
    assert list(found.scores) == [
        "MIG", "SAP", "DCI disentanglement", "DCI completeness", "DCI informativeness", "FactorVAE score",
        "Higgins' score",
    ]  # fmt: skip
    assert found.scores["MIG"] == mutual_information_gap(codes, factors, bins=12) == pytest.approx(1)
    assert found.chance["MIG"] < 0.1 and found.chance["DCI informativeness"] < 0.5
    assert found.information.argmax(0).tolist() == found.importances.argmax(0).tolist() == [1, 0]
    notes = {figure.name: figure.note for figure in found.figures}
    assert "2 latents, 2 factors, 12 bins" in notes["MIG"] and "2 active latents" in notes["FactorVAE score"]
    assert all("chance" in note for note in notes.values())
    assert found.figures == disentanglement(codes, factors, bins=12).figures  # the same draws
