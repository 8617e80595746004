"""The records of a hub, the names of its refs, and what follows from both alone."""
