"""Alerts: what is wrong, who is told of it and when. Rules alone, no I/O: the store keeps what they decide."""
