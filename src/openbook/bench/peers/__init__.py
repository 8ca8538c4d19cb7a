"""The peers, each behind the runner that a contest asks for."""
