"""Enrolment: who a device is to the broker, and how it comes to be known."""
