"""python replicas.py PATH: a matrix by three logical devices, and by threads; devices to stdout."""

import json
import sys
import threading

import gram_kernels
import numpy as np
import tensorflow as tf

from keras2gp.matrices.api import compute
from keras2gp.matrices.work import Work

if __name__ == "__main__":
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 3)
    places = [device.name for device in tf.config.list_logical_devices("CPU")]
    seen = []
    plain = Work.compute
    together = threading.Barrier(3)

    def watched(self, block, into=None):
        values = plain(self, block, into)
        seen.append(tf.constant(0.0).device)
        if len(seen) <= 3:
            together.wait(60)
        return values

    kernel, x = gram_kernels.kernel(), gram_kernels.images(200)
    expected = compute(kernel, x, shape=gram_kernels.SMALL, executor="threads")
    Work.compute = watched
    strategy = tf.distribute.MirroredStrategy(places)
    options = {"shape": gram_kernels.SMALL, "executor": strategy}
    equal = [
        np.array_equal(compute(kernel, x, None, out, **options), expected)
        for out in (None, sys.argv[1])
    ]
    one = compute(
        kernel, x, shape=gram_kernels.SMALL, executor=tf.distribute.OneDeviceStrategy(places[1])
    )
    equal.append(np.array_equal(one, expected))
    json.dump({"equal": equal, "seen": sorted(set(seen))}, sys.stdout)
