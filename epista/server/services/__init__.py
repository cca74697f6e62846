"""Every rule of the lab: the actor first, the policy next, the audit last. No HTTP here."""
