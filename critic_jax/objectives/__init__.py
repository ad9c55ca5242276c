"""Catalogues of formulas: arrays in, unreduced arrays out."""
