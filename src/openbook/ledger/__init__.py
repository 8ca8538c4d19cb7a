"""What it cost: append-only entries priced from a dated price plan, and statements over them."""
