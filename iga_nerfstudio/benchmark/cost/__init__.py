"""What the adjustment costs: a file per measurement."""
