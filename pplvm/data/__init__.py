"""Data sets by name, file, folder or import path, and the batches made of them."""
