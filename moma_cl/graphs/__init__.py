"""Graphs: building, keeping and batching them."""
