"""Kernels for graphics processors, each beside a reference in plain PyTorch."""
