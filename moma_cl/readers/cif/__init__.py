"""CIF files: each is read with all that it says about itself, and checked against it."""
