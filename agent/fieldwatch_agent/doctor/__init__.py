"""The doctor: tries the real thing, and says for each part what is wrong and what to do."""
