"""The contract of a backbone as a pytest class, and input files for fuzzing the readers."""
