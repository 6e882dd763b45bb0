"""Holds the benchmarks that `renoise bench` runs; no other part of the package imports them."""
