"""What people and notebooks use: sessions, the verbs by noun, and the wire under them."""
