"""Objectives: swappable Pyro ELBOs, each a bound and a gradient rule."""
