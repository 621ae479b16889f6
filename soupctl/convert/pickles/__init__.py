"""Checkpoints that torch has saved, read without running anything that they contain.

- `archive.py`: the zip file
- `machine.py`: the few instructions of a pickle that make dicts, lists and tensors
- `tensors.py`: the tensors, as ranges of the file
- `folders.py`: shards with an index, and pipelines
"""
