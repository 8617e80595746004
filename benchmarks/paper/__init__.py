"""The paper's main experiment on nine of its datasets, with the paper's splits."""
