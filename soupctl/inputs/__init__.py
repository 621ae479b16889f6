"""What goes into a soup: models found, opened, known by their content and by their ledgers."""
