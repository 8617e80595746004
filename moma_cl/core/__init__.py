"""What every layer uses and no layer owns: threads, worker processes, hints."""
