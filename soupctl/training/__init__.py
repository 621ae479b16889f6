"""Training: what makes ingredients of soups.

torch, diffusers, transformers and accelerate are loaded by the commands that train, and only then.
"""
