"""The pure core: decide, apply, due. No I/O, no clock, no randomness."""
