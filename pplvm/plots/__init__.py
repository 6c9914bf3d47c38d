"""Curves, tables and reports: from records and arrays to matplotlib Axes, text and HTML."""
