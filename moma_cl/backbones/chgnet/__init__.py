"""CHGNet 0.3.0 as a backbone."""
