"""Pure tensor functions, each with a plain reference beside the fast path."""
