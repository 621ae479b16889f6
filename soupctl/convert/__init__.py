"""Conversions of a checkpoint: dtype, layout, shards, metadata and file format.

A conversion is no mean: a tensor whose dtype stays is copied, bit for bit. Every output tensor is
made of ranges of input tensors, which are read once, in chunks.

- `request.py`: what is asked
- `pieces.py`: which ranges of input tensors an output tensor is made of
- `gguf/`, `pickles/`: other formats
- `layouts/`, `configs/`: the names of other layouts, and the configs of a new pipeline
- `dtypes.py`: what becomes of each tensor's values
- `stream.py`: read, cast, write, digest
- `record.py`: the metadata of the output, and what becomes of a ledger
- `training.py`: the training record of what another trainer made
- `conversion.py`: open, plan; `write.py`: carry out; `preview.py`: the plan for the user
"""
