"""What `env/bundle.py` is made of: the bundle's manifest, wheels and models, and the two ways to a Conda channel."""
