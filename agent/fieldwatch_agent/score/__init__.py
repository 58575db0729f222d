"""Scoring: lines → rows → scores → results and alerts; also the shadow test of a new bundle, and replay."""
