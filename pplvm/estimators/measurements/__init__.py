"""Measurements of one estimator: moments of its gradients against the reference, by minibatch and pooled."""
