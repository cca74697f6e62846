"""Who may: the policy, the people, their tokens. No I/O here but through the stores."""
