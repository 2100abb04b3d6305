"""`mambatrain evaluate`: how good a run or a model file is on cases it did not learn from, on their original grids."""
