"""Pictures: images of models, grids and curves, as PNG."""
