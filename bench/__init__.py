"""Every speed claim of Mechaway, measured side by side: `make bench`."""
