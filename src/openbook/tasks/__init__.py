"""Problems and verdicts: seeded families, answer parsing, rewards. No torch."""
