"""The nerfstudio plugin."""
