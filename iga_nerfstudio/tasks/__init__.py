"""Images, shapes and signals on one training loop."""
