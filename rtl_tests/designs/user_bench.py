# SPDX-License-Identifier: Apache-2.0
"""A cocotb bench as a user would write it, with fpsim's Driver, Monitor and Scoreboard.

`test_rtl_library.py` runs it on serial_mx.sv and reads what each test says.
"""

from __future__ import annotations

import os
from typing import Any

import cocotb
import numpy as np
from cocotb.clock import Clock

import fpsim
from fpsim.hdl import Driver, Monitor, Scoreboard, apply_reset

BLOCKS = 25


async def started(dut: Any, stall: float) -> tuple[Driver, Scoreboard]:
    """Start the clock, reset the design, and return agents that run."""
    Clock(dut.clk, 10, unit="ns").start()
    board = Scoreboard(["out_data"])
    driver = Driver(
        dut,
        ["in_data"],
        clock=dut.clk,
        valid="in_valid",
        ready="!in_stop",
        stall=stall,
        seed=3,
        patience=200,
    )
    monitor = Monitor(
        dut, ["out_data"], clock=dut.clk, valid="out_valid", ready="out_ready", stall=stall,
        seed=4, scoreboard=board,
    )  # fmt: skip
    await apply_reset(dut.rst, dut.clk, active_low=False, synchronous=True)
    driver.start()
    monitor.start()
    return driver, board


def blocks() -> list[tuple[list[int], int]]:
    """Return the bytes of random blocks and the float32 codes of their dot products."""
    rng = np.random.default_rng(1)
    unit = fpsim.get_unit("mxfp4-block32-e8m23")
    made = []
    for _ in range(BLOCKS):
        a, b = rng.integers(0, 16, (2, 32))
        scales = rng.integers(110, 140, 2)
        code = unit.dot(a, b, a_scale=scales[:1], b_scale=scales[1:], block=32)
        made.append(([*scales.tolist(), *(a | b << 4).tolist()], int(code)))
    return made


async def play(driver: Driver, board: Scoreboard, flip: int = 0) -> None:
    for i, (data, code) in enumerate(blocks()):
        board.expect([code ^ flip], f"block {i}")
        for byte in data:
            await driver.send({"in_data": byte})


@cocotb.test()
async def results_match(dut: Any) -> None:
    driver, board = await started(dut, float(os.environ["STALL"]))
    await play(driver, board)
    await board.drained(dut.clk)
    board.verdict()
    assert board.compared == BLOCKS


@cocotb.test()
async def reset_in_the_middle(dut: Any) -> None:
    driver, board = await started(dut, 0.0)
    for byte in blocks()[0][0][:20]:
        await driver.send({"in_data": byte})
    await apply_reset(dut.rst, dut.clk, active_low=False, synchronous=True)
    await play(driver, board)
    await board.drained(dut.clk)
    board.verdict()


@cocotb.test(expect_fail=True)
async def a_wrong_expectation_fails(dut: Any) -> None:
    driver, board = await started(dut, 0.0)
    await play(driver, board, flip=1)
    await board.drained(dut.clk)
    board.verdict()


@cocotb.test(expect_fail=True)
async def a_result_too_many_fails(dut: Any) -> None:
    driver, board = await started(dut, 0.0)
    await play(driver, board)
    await board.drained(dut.clk)
    board.expect([0], "nothing")
    await board.drained(dut.clk, limit=100)


@cocotb.test(expect_fail=True)
async def nothing_compared_fails(dut: Any) -> None:
    _, board = await started(dut, 0.0)
    board.verdict()


@cocotb.test(expect_error=AssertionError)
async def a_design_that_takes_nothing_fails(dut: Any) -> None:
    """Nobody takes the results, so the second block waits at its last byte."""
    Clock(dut.clk, 10, unit="ns").start()
    dut.out_ready.value = 0
    driver = Driver(
        dut, ["in_data"], clock=dut.clk, valid="in_valid", ready="!in_stop", patience=50
    )
    await apply_reset(dut.rst, dut.clk, active_low=False, synchronous=True)
    driver.start()
    for data, _ in blocks()[:2]:
        for byte in data:
            await driver.send({"in_data": byte})
