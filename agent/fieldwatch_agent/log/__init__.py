"""Reads: which files the log is, which comes next, bytes → whole lines."""
