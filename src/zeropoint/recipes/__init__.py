"""The stages in order, in plain Python."""
