"""Raw data straight into the warehouse: casts and an enforced schema, nothing else."""
