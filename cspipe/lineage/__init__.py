"""From any model, samples or metrics file back to the code, parameters, data and machine that made it."""
