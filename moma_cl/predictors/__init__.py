"""A fitted predictor in memory: its arrays, intervals, domain and explanation."""
