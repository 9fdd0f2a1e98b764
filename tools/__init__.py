"""Programs for those who work on Mechaway."""
