"""The story: one file a stage, readable beside the paper."""
