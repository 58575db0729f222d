"""Reading: which files make up the log, which one comes next, bytes → whole lines."""
