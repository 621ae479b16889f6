"""Attestations of soups: what is in them and how that was verified, for others to check."""
