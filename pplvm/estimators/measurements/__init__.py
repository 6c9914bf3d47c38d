"""What is measured of one estimator: its moments against the reference, by minibatch and over all of them."""
