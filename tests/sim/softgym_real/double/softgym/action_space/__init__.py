"""As in SoftGym."""
