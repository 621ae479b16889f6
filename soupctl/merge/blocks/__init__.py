"""Weights by block: files, presets and classic strings, the named blocks of models, tables."""
