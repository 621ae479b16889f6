"""Deltas: a fine-tuned checkpoint minus its base, kept exactly, and applied to a base."""
