"""The result of a comparison: an xarray dataset that prints as a ranked table."""
