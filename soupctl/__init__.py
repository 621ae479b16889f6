"""soupctl: exact, reversible, verifiable soups of model checkpoints."""

__version__ = "0.1.0"
