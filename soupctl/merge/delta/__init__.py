"""Deltas: a fine-tuned checkpoint minus its base, stored exactly."""
