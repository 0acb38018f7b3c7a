"""What happened, as plain tables in the user's own warehouse."""
