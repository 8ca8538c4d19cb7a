"""What the network learns from: corpora, packing, batches and an exactly resumable loader."""
