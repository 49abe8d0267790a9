"""Tables and products that the global calibration leaves."""
