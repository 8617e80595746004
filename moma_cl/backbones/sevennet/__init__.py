"""SevenNet: an equivariant backbone, exact and many times faster than its package."""
