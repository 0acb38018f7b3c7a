"""scikit-learn's estimators and pipelines."""
