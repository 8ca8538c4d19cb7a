"""Sampling: from prompts to completions with log-probabilities."""
