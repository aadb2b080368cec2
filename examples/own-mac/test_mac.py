# SPDX-License-Identifier: Apache-2.0
"""A bench of our own: random products, fpsim says what the accumulator must be."""

import random
from pathlib import Path

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge
from cocotb_tools.runner import get_runner

import fpsim

HERE = Path(__file__).parent


@cocotb.test()
async def random_products(dut):
    """Every accumulator is that of the unit, clock by clock."""
    unit = fpsim.get_unit(HERE / "mac.toml")
    Clock(dut.clk, 10, "ns").start()
    dut.rst_n.value, dut.clear.value, dut.enable.value = 0, 0, 0
    await FallingEdge(dut.clk)
    dut.rst_n.value, dut.enable.value = 1, 1
    acc = 0
    for _ in range(2000):
        a, b = random.randrange(16), random.randrange(16)
        dut.a.value, dut.b.value = a, b
        acc = int(fpsim.oracle.dot(unit, [a], [b], acc))
        await FallingEdge(dut.clk)
        assert dut.acc.value.to_unsigned() == acc, f"{a:x} * {b:x} gives {dut.acc.value}"


def test_mac(simulator="verilator"):
    """Compile the design and run the bench; pytest finds this function."""
    runner = get_runner(simulator)
    runner.build(
        sources=[HERE / "mac.sv"],
        hdl_toplevel="mac",
        build_dir="sim_build",
        timescale=("1ns", "1ps"),
    )
    runner.test(hdl_toplevel="mac", test_module="test_mac", build_dir="sim_build")


if __name__ == "__main__":
    test_mac()
