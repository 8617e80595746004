"""What lists and pages show of a hub, read from the catalogue alone."""
