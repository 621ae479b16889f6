"""Soups made by methods that are no weighted mean: request, pass, record and rebuild."""
