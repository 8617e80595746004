"""Answers: a loaded predictor, its intervals and domain, what explains it, what checks it."""
