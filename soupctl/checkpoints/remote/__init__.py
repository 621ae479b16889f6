"""Checkpoints on the hub, in object stores and on web servers, read without a copy on disk."""
