"""Enrolment: the device's identity, how it comes by it and keeps it."""
