"""Drop-in layers for those who come from another package; each stands above the client."""
