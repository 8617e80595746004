"""Backbones: pretrained encoders from crystal graphs to node features."""
