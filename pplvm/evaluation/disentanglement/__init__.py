"""Scores of codes against known factors: MIG, SAP, DCI, FactorVAE's and Higgins' score, each of (codes, factors)."""
