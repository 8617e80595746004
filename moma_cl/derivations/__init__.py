"""What is computed from what, one file for each kind of derivation."""
