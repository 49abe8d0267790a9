"""Stars and exposures with known truth."""
