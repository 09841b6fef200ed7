"""Maps of posterior means to probabilities: a temperature, or a linear map."""
