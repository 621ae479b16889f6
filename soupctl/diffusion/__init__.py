"""Denoisers of diffusers: what a base is, how it is loaded, taught and asked for images.

torch, diffusers and transformers are loaded by the commands that need a model, and only then.
"""
