"""What configs mean, as values: fields, defaults, noise schedules; opens no file of a user."""
