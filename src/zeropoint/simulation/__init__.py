"""Stars and exposures with known truth: for the demo, tests, benchmarks and examples."""

from zeropoint.simulation.exposures import SimulatedExposure, simulate_exposure
from zeropoint.simulation.files import write_simulation
from zeropoint.simulation.settings import SimulationSettings

__all__ = ["SimulatedExposure", "SimulationSettings", "simulate_exposure", "write_simulation"]
