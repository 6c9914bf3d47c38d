"""Evaluation of trained programs: likelihood, information, latents and samples."""
