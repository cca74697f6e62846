"""What both ends of the wire agree on. Points at nothing else in the house."""
