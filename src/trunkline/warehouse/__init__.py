"""The warehouse: one protocol, small capability protocols, one file per engine."""
