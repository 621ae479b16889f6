"""The exact sum that `--keep-sum` stores beside a soup: its format, reading, writing and update."""
