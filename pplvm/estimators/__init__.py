"""Gradient estimators compared: bias, variance and cost at fixed parameters, and verification on tiny programs.

Read in this order; each room imports from those above it alone:

    parameters.py          a program's parameters as one vector (P,), split into model and guide
    cost/                  likelihood evaluations, milliseconds, variance times time
    replicates/            draw many gradients of one estimator, one by one or through a vmapped graph
    statistics/            stream them into means, variances and projections; test whether a mean is zero
    references/            the gradient that the mean should be: enumerated exactly, or drawn many times
    measurements/          an estimator on its minibatches: the moments of its gradients beside the reference
    results/               all of it as one xarray dataset that prints as a table
    comparison.py          the loop over minibatches and rounds; `compare_gradients.py` is the one call around it
    particle_sweep.py      signal-to-noise against the number of particles
    verification/          the same question on tiny programs whose gradients are known exactly
"""
