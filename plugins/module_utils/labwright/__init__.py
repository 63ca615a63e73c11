"""The control node's logic: pure functions from wishes, facts and the catalogue to a plan, and from answers to a
verdict.
"""
