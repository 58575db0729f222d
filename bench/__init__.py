"""Each figure that the README quotes, as a program that prints it with its conditions: ``python -m bench``."""
