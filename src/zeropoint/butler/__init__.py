"""The repository side: cameras, ingest, reference catalogues, sky maps, formatters and execution."""
