"""`python -m votectl`: the operator's command line."""
