# fields that the HSC files set
import os.path

from lsst.meas.algorithms import ColorLimit
from lsst.meas.astrom import MatchOptimisticBConfig

here = os.path.dirname(__file__)

config.connections.astrometry_ref_cat = "ps1"
config.astrometry_ref_loader.load(os.path.join(here, "filterMap.py"))
config.astrometry_ref_loader.anyFilterMapsToThis = None  # not Gaia
config.photometry_ref_loader.load(os.path.join(here, "filterMap.py"))

config.photometry.applyColorTerms = True
config.photometry.photoCatName = "ps1"
colors = config.photometry.match.referenceSelection.colorLimits
colors["g-r"] = ColorLimit(primary="g_flux", secondary="r_flux", minimum=0.1)
colors["r-i"] = ColorLimit(primary="r_flux", secondary="i_flux", maximum=0.4)
config.photometry.colorterms.load(os.path.join(here, "colorterms.py"))
