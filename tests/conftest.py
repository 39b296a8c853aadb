"""Property-based tests have no deadline for one example: machines that run them are shared and slow at times."""

from hypothesis import settings

settings.register_profile("no_deadline", deadline=None)
settings.load_profile("no_deadline")
