"""Masks of a labelled patient carried to others by registration: no part of the product, only what was measured."""
