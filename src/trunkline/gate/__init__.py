"""The gate: evidence about a candidate on the sealed test part, a verdict by declared rules, a report."""
