"""A persistent, versioned store of immutable arrays and records; knows nothing of chemistry."""
