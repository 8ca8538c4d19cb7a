"""The revisions, oldest first; a revision is never changed once a ledger may have been through it."""
