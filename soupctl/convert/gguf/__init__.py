"""GGUF files, as llama.cpp and ComfyUI-GGUF read them: read, and written.

- `blocks.py`: values as Q8_0 blocks, and back
- `reader.py`: a file, open as a checkpoint
- `output.py`: the one file of an output, its types and its header
"""
