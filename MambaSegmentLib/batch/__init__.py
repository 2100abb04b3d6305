"""Many cases with one model: what they are, what became of each, and going on where a run was stopped."""
