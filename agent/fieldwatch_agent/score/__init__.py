"""Judges: lines → rows → scores → results and alerts, and the shadow and the replay of the same."""
