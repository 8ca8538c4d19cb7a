"""Text and ids: the tokenizer, the prompt templates and the reasoning tags."""
