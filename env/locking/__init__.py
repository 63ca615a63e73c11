"""How locks are made and checked: sources, resolving, the wheels' requirements, the check. `env/lock.py` runs it."""
