"""Many processes that act as one: ranks, collectives, data parallelism, and progress that one of them shows."""

from pplvm.distributed.data_parallel import parallel
from pplvm.distributed.ranks import join

__all__ = ["join", "parallel"]
