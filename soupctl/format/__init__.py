"""Bytes to values and back; nothing here opens a file."""
