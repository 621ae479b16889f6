"""Denoisers of diffusers: bases on disk and in memory, their training objective, and sampling.

torch, diffusers and transformers are loaded by the commands that need a model, and only then.
"""
