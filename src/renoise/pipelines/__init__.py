"""Diffusers pipelines as ReNoise sees them; the only folder that imports diffusers and transformers."""
