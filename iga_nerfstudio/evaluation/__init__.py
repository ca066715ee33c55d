"""Metrics, figures and meshes."""
