"""How the tables of a ledger came to be what they are: one revision for each version of the schema."""
