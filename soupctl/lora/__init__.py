"""Adapters: the contents of their files, the layers they change, and the updates they stand for."""
