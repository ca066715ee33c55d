"""Measurements: what they are made of, and the command ``iga-bench`` that makes them."""
