"""Reference gradients, which an estimator should have on average: exact by enumeration, or a mean of many draws."""
