"""Small replications of Diffusion Soup and of Diffusion Model Patching, with soupctl's commands."""
