"""Compiled primitives used by two or more rooms: arrays in, arrays out."""
