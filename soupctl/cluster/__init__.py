"""Functions called on the workers of a Ray cluster; nothing else in soupctl knows Ray."""
