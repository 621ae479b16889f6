"""Soups made by methods that are not weighted means: request, pass, record and rebuild."""
