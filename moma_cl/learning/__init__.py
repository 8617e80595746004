"""Learning from arrays alone: no store, no task, no chemistry."""
