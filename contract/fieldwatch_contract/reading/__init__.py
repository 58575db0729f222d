"""A log's lines → readings: dialects, times and their settings. Agent and trainer read the same logs the same way."""
