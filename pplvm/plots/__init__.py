"""Curves, tables and reports: records and arrays in, Axes and text out."""
