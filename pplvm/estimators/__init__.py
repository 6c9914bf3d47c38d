"""How estimators of a gradient are judged: bias, variance and cost at frozen parameters, and proof on tiny programs.

Read in this order:

    compare_gradients.py   the one call, and `comparison.py`, the loop beneath it
    parameters.py          a program's parameters as one vector (P,), split into model and guide
    replicates/            draw many gradients of one estimator, one by one or through a vmapped graph
    statistics/            stream them into means, variances and projections; test whether the mean is biased
    references/            the gradient that the mean should be: enumerated exactly, or drawn many times
    cost/                  likelihood evaluations, milliseconds, variance times time
    results/               all of it as one xarray dataset that prints as a table
    particle_sweep.py      signal-to-noise against the number of particles
    verification/          the same question on tiny programs whose gradients are known exactly
"""
