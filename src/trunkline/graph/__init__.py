"""Steps, graphs, selection and plans: pure, no I/O."""
