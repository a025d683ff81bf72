"""From a spec to jobs, their identities and what they will cost."""
