"""The agent: tails a device's log, scores it, stores and sends the results, and updates its bundle."""

__version__ = "0.1.0"
