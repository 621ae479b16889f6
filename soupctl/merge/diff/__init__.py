"""Comparing checkpoints by the values of their tensors."""
