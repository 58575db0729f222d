"""Signing and shipping: bundles become TUF targets under offline keys, a small policy says who runs which."""
