"""Benchmarks of edits: composed scenes whose right answers are known, and PIE-Bench; nothing imports it but the command line."""
