"""python filling.py PATH N SECONDS: fill a store, resting in every block."""

import sys
import time

import gram_kernels

from keras2gp.matrices.executors import Threads
from keras2gp.matrices.work import Work

if __name__ == "__main__":
    path, count, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    compute = Work.compute

    def slow(self, *given, **options):
        time.sleep(seconds)
        return compute(self, *given, **options)

    Work.compute = slow
    sys.stdout.reconfigure(line_buffering=True)
    kernel = gram_kernels.kernel()
    options = {"progress": lambda done, total: sys.stdout.write(f"{done}\n")}
    gram_kernels.stored(
        path, gram_kernels.images(count), kernel_=kernel, executor=Threads(2), **options
    )
