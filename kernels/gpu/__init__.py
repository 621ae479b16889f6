"""GPU kernels in Triton, each with a reference in plain PyTorch."""
