"""Keeping derived results current: the walk, the plan, the pass, and where it is computed."""
