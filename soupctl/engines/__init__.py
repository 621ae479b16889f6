"""Ways to compute a soup's numbers: one contract, several engines."""
