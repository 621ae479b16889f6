"""Images from models, grids of them, and plots, as PNG files."""
