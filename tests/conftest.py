"""What all tests share: one thread, and no clock."""

import os

from hypothesis import settings

# The networks of the tests are tiny: a second thread gains nothing, and on a busy machine two wait for each other.
# Before torch is imported; what tests start in processes of their own inherits it.
os.environ["OMP_NUM_THREADS"] = "1"

settings.register_profile("pixmend", deadline=None)  # no test measures speed
settings.load_profile("pixmend")
