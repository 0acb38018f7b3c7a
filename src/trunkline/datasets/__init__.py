"""Datasets: one snapshot, split in the warehouse, exported once per fingerprint, the test part sealed."""
