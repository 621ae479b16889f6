"""Averages over the time of a training run: weights for its snapshots."""
