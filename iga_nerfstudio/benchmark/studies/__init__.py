"""What trains networks to compare them: a file per study."""
