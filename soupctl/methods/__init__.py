"""Methods of merging that are not weighted means: arrays in, arrays out; no file."""
