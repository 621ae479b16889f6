"""The ledger: what a soup is made of, as values and as JSON, and how its ingredients are found."""
