"""The kinds of tensors, found by data tables from names, companions, metadata and configs."""
