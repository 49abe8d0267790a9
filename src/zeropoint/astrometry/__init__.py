"""Stage 5: pattern matching and WCS fits."""
