"""Averages over the time of a training run: which snapshots count, and how much."""
