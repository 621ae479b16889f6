"""Checkpoints: opened, memory-mapped, validated, digested and compared; knows no soup."""
