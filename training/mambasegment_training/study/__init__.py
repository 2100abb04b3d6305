"""`mambatrain compare` and `queue`: runs side by side on the same cases, and many runs one after the other."""
