"""Fewer bits: the forms in which a matrix can be stored, their bytes and errors, and how they are read."""
