"""The kinds of tensors, found from names, companions, metadata and configs by data tables."""
