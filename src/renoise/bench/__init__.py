"""The benchmarks of `renoise bench`. Only the command line imports them."""
