"""A bundle behind HTTP: validation against its signature, MLflow's scoring protocol, a docs page, a prediction log."""
