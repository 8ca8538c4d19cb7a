"""What happened: a run is a folder with a manifest, metrics, usage and a card."""
