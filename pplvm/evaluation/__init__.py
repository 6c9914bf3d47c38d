"""Evaluation: what a program and its estimators are worth."""
