"""What docs/networks.md shows and nobody writes by hand: counts, claims and drawings, all from the networks."""
