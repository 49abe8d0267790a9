"""The photometric model of a survey: its data, its parameters, and the pass over all observations."""
