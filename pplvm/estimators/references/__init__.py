"""The gradient that an estimator should have: exact by enumeration, or an average of many draws."""
