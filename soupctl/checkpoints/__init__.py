"""Checkpoints: opened, validated, read, digested and compared; knows no soup."""
