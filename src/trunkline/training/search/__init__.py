"""Searching the parameters of a model function, in one study."""
