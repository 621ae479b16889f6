"""The meaning of configs: fields, defaults, noise schedules; opens no file of a user."""
