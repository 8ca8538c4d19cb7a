"""What a served token costs and what it is sold for: roofline, load, price lists, margins, capacity."""
