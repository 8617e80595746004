"""Training of the modules that ship with the package."""
