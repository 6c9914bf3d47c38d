"""Verification of estimators on tiny programs with known gradients."""
