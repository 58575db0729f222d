"""The service beside the device: tail, score, remember, send, update itself."""

__version__ = "0.1.0"
