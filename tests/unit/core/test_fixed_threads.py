"""A fixed number of threads for every library."""

import os

from tests.helpers.processes import run_python

LIMITED = """
from moma_cl.core.threads import fixed_threads
from threadpoolctl import threadpool_info
with fixed_threads(1):
    import scipy.linalg  # as the first derivation of a process would
    print(sorted({library["num_threads"] for library in threadpool_info()}))
"""


def test_every_library_keeps_to_the_number_of_threads_also_the_one_that_is_loaded_last():
    free = {name: value for name, value in os.environ.items() if "NUM_THREADS" not in name}
    assert run_python(LIMITED, env=free).strip() == "[1]"
