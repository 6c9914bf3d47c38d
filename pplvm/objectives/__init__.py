"""Objectives: Pyro ELBOs, each made of a bound and a gradient rule."""
