"""Compiles exported block programs for an H100 on a machine without a GPU, and counts kernels.

    pip install --no-deps --target PLUGIN jax-cuda13-pjrt==0.10.2 jax-cuda13-plugin==0.10.2
    python tools/gpu/compile.py FOLDER PLUGIN [NAME-PATTERN ...]

FOLDER holds what tools/gpu/export.py wrote; the plugin's release is that of the installed jax. The
plugin compiles for a described GPU without any driver; nothing is tuned, and nothing runs. One line
for each program, of its tiles:

    launches  kernels for one block: those of the loop's body count once
    waits     conditionals, for each of which the host copies a flag and waits
    KB        bytes that the kernels read and write, each array once, over the pairs of a tile
    temp      memory of the maps

The exit code is 1 where a program waits.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import math
import re
import sys
import time
from pathlib import Path

from jax._src.interpreters import mlir
from jax._src.lib.mlir import ir
from jaxlib import _jax
from jaxlib import xla_client as xc
from run import FUSED, kinds, stablehlo

H100 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048
  shared_memory_per_block: 49152 shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000 l2_cache_size: 52428800 device_memory_size: 84978434048
  cuda_compute_capability { major: 9 minor: 0 }
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 8 }
runtime_version { major: 13 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""
WORK = re.compile(
    r"\s+(?:ROOT )?(?P<name>%\S+) = (?P<shape>.*?[\])}]) "
    r"(?P<kind>[a-z\-]+)\((?P<operands>.*?)\)(?:,|$)"
)
NO_WORK = ("parameter", "get-tuple-element", "tuple", "bitcast", "constant", "conditional", "while")
ARRAY = re.compile(r"\b(pred|[a-z]+(\d+))\[([\d,]*)\]")


def device_of(plugin: Path):
    """A device that compiles and does not run."""
    library = next(plugin.glob("jax_plugins/*/xla_cuda_plugin.so"))
    xc.load_pjrt_plugin_dynamically("cuda", str(library))
    xc.initialize_pjrt_plugin("cuda")
    described = {"target_config": H100, "topology": "1x1x1"}
    topology = _jax.get_default_c_api_topology("cuda", "", described)
    return topology._make_compile_only_devices()[0]  # noqa: SLF001


def compiled(module: bytes, device):
    options = xc.CompileOptions()
    options.env_option_overrides = [("xla_gpu_autotune_level", "0")]
    with mlir.make_ir_context():
        return device.client.compile(ir.Module.parse(module), xc.DeviceList((device,)), options)


def size(shapes: str) -> int:
    """Bytes of all arrays that a piece of HLO names."""
    return sum(
        math.prod(int(n) for n in sides.split(",") if n) * (int(bits) // 8 if bits else 1)
        for _, bits, sides in ARRAY.findall(shapes)
    )


def traffic(executable) -> int:
    """Bytes of the operands and results of each instruction outside fusions."""
    total, inside, sizes = 0, False, {}
    for line in executable.hlo_modules()[0].to_string().splitlines():
        if line.endswith("{") and not line.startswith(" "):  # a computation begins
            inside, sizes = line.startswith(FUSED), {}
        elif not inside and (found := WORK.match(line)):
            sizes[found["name"]] = size(found["shape"])
            if found["kind"] not in NO_WORK:
                operands = re.findall(r"%[\w.\-]+", found["operands"])
                total += sizes[found["name"]] + sum(sizes.get(name, 0) for name in operands)
    return total


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("plugin", type=Path)
    parser.add_argument("patterns", nargs="*", default=["*"])
    arguments = parser.parse_args()
    device, waiting = device_of(arguments.plugin), 0
    for row in json.loads((arguments.folder / "manifest.json").read_text()):
        if not any(fnmatch.fnmatch(row["name"], pattern) for pattern in arguments.patterns):
            continue
        begin = time.perf_counter()
        executable = compiled(stablehlo(arguments.folder / row["tiles"]), device)
        seconds = time.perf_counter() - begin
        counts = kinds(executable)
        waits = counts.pop("conditional", 0)
        counts.pop("while", None)
        waiting += waits
        temporary = executable.get_compiled_memory_stats().temp_size_in_bytes
        print(
            f"{row['name']:40s} {sum(counts.values()):4d} launches, {waits} waits, "
            f"{traffic(executable) / row['tile'] ** 2 / 1e3:.0f} KB a pair, temp "
            f"{temporary / 1e9:.2f} GB, compiled in {seconds:.1f} s",
            flush=True,
        )
    return int(waiting > 0)


if __name__ == "__main__":
    sys.exit(main())
