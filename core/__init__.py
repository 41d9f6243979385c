"""The laboratory: data, models, training, evaluation, metrics and the results contract."""
