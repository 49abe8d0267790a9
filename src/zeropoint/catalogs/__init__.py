"""Source selectors, reference catalogues and source tables."""
