"""Merging: from a request to a plan, to the executor, to a published soup."""
