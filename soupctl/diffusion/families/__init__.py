"""Families of denoisers: how each encodes text, is called, and draws images.

Rule 1: a family is one file, and one entry of `table`; training and sampling ask it, and never the
class of a model.
"""
