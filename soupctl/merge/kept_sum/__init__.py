"""The exact sum that `--keep-sum` stores beside a soup: format, reading, writing and update."""
