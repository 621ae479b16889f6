"""Choosing soups by a score: scorers, the journal of their scores, and the commands that choose."""
