"""Prompt banks: the prompts and gates that Diffusion Model Patching adds to a frozen base."""
