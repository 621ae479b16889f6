"""Configs for the components of a new pipeline, by the names and shapes of their tensors.

A field that the shapes decide is taken from them; the others are those of the published models.
"""
