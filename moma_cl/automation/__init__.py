"""A hub that nobody watches: inbox, schedule, daemon, drift and status."""
