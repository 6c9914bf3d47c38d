"""From words to objects: data, programs, objectives and optimizers as the command line names them."""
