"""The disk: reading checkpoints, publishing outputs, digests; knows no soup."""
