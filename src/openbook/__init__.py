"""Openbook: an open, complete DeepSeek-R1 with open books."""
