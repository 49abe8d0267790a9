"""Characterize one image: PSF, aperture corrections and bright sources; first of the two older recipes."""

from zeropoint.recipes.characterize_image.config import CharacterizeImageConfig
from zeropoint.recipes.characterize_image.recipe import CharacterizeImage
from zeropoint.recipes.characterize_image.record import CharacterizedImage

__all__ = ["CharacterizeImage", "CharacterizeImageConfig", "CharacterizedImage"]
