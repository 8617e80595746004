"""Files to rows: one file for each format, and one that decides which of them reads a file."""
