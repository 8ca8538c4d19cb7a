"""What a run will cost before it is run: memory, hours and dollars, each with its band. No torch."""
