"""What all tests share: patience with machines that are shared and slow at times."""

import os

from hypothesis import settings

# Threads of two test processes on two cores: spinning while they wait, each takes what the other
# needs (3 to 5 times slower).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
settings.register_profile("no_deadline", deadline=None)  # no limit for one example of a property
settings.load_profile("no_deadline")
