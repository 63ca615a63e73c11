"""How locks are made and checked: sources, resolving, the wheels' own requirements, the check. `env/lock.py` runs it."""
