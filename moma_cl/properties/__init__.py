"""Properties, their units, and the transforms of targets."""
