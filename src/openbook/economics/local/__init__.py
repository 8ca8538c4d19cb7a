"""The machine at hand: what a recipe will take on it, from a profile or from past runs, and what it took."""
