"""What a machine has and lacks for champ_jax, and what to do about it: `champ doctor`.

Only the standard library is imported before a check runs, and everything that could crash or hang runs in a process of
its own (`probing`), so that the report comes whatever is broken.
"""
