"""The network: configuration, arithmetic, layers, checkpoints and public layouts."""
