"""Adapters: what their files hold, what they are trained on, and the update that they stand for."""
