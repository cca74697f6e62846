"""One file a migration; they are only ever added."""
