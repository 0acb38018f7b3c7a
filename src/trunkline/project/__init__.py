"""The project folder: find, parse and validate what the user writes into frozen types."""
