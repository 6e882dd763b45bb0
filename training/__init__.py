"""Training of `orchard`, the small text-conditional latent diffusion model that ships with `renoise`."""
