"""Starts FastChat 0.2.36's own modules, and mends what makes them unfit to run with nobody at the terminal.

Each mend says what was measured with FastChat 0.2.36; it may go when a FastChat without that fault is locked.
"""
