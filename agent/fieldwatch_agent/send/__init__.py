"""Remembers and delivers: the journal, and what leaves it for the cloud."""
