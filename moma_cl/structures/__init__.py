"""Crystals: reading, checking, packing and identifying them."""
