"""What derivations and predictors read of a hub, loaded once."""
