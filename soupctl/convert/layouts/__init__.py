"""The two layouts of published models: the original one (LDM, BFL), and that of diffusers.

- `pairs.py`: pairs of tensors, and how one is made of the other
- `unet.py`, `autoencoder.py`, `texts.py`, `flux.py`: the tables of each model, with their sources
- `families.py`: which models a single file holds, and under which prefixes
- `arrange.py`: the tensors of a whole checkpoint in the other layout
"""
