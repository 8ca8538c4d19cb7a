"""How good: scores with intervals, pass@k, majority vote."""
