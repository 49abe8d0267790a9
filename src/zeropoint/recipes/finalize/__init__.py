"""Final characterization: the PSF and the aperture corrections of a detector from stars chosen over all visits."""

from zeropoint.recipes.finalize.config import FinalizeCharacterizationConfig
from zeropoint.recipes.finalize.recipe import FinalizeCharacterization
from zeropoint.recipes.finalize.record import FinalizedDetector, Outcome

__all__ = ["FinalizeCharacterization", "FinalizeCharacterizationConfig", "FinalizedDetector", "Outcome"]
