"""Streaming statistics of replicate gradients: moments, projections, and tests of their bias."""
