"""Datasets: segments of rows, their folds, and how new rows join them."""
