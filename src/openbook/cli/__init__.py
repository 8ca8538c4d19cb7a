"""The front door: the only place where parts are put together."""
