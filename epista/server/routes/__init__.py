"""HTTP: decode, one service call, encode. No rules, no permissions, no SQL."""
