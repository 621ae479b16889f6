"""Prompt banks: what Diffusion Model Patching adds to a base that stays as it is."""
