"""What comes of it: where it goes, how it is made there, and what is recorded of it."""
