"""The $505 billion question: what must be true for the spending on AI to pay, and how sure that is."""
