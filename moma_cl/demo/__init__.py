"""The demo: a hub of the chemical elements that grows task by task."""
