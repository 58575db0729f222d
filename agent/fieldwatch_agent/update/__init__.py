"""Changes the bundle: pulls, verifies, proves and activates it."""
