"""Recipe files: named steps that become one average, and the recipes of soups."""
