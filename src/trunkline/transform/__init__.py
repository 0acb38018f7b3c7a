"""dbt: the stale part of the project's models in one invocation, and the DuckDB side of its Python functions."""
