"""The ledger of a soup: its ingredients as values and as JSON, and how their files are found."""
