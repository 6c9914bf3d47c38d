"""The data room: data sets by name, by file and by folder, and the batches made of them."""
