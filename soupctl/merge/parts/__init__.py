"""Soups that several processes or workers make: each makes a part, and one of them joins all.

Rule 1: the joined soup has the bytes of a soup made at once.
Rule 2: a part is one file, which appears whole: its tensors, and what was read to make them.
"""
