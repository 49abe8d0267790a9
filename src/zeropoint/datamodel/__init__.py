"""What flows between the rooms: exposures, masks, footprints, catalogues, PSF and WCS models."""
