"""Adapters: the contents of their files, the layers they change, and their updates."""
