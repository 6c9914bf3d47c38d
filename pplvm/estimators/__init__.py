"""How estimators of a gradient are judged: bias, variance and cost at frozen parameters, and proof on tiny programs."""
