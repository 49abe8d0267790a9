"""Stage 9: summary statistics, metrics, plots, verdict and report."""
