"""Training: one loop, with accelerate, that makes ingredients of soups and prompt banks."""
