"""Methods of merging that are no weighted mean: arrays in, arrays out; no file."""
