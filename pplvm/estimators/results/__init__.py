"""A comparison as one labelled dataset, which prints as a ranked table."""
