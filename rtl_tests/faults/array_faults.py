# SPDX-License-Identifier: Apache-2.0
"""Mistakes that a designer of a systolic array makes, each with the dataflow whose tiles show it.

`MODULE` stands for the array's own module, which is generated. Rows and columns move together: the
rows below and the columns after have no more room than those before them, so row 0 has no room
until all have, no beat is ahead of the one that it meets, and a row of results is whole when its
first one is there. Looking at one of them alone is no mistake, and none of this list.
"""

from __future__ import annotations

from faults.faults import Fault
from fpsim.hdl.rtl.array import Dataflow

__all__ = ["ARRAY_FAULTS", "MODULE"]

MODULE = "array"
_OS, _WS = Dataflow.OUTPUT_STATIONARY, Dataflow.WEIGHT_STATIONARY


def _of(flow: Dataflow, file: str, *rows: tuple[str, str, str]) -> list[tuple[Dataflow, Fault]]:
    return [(flow, Fault(name, file, old, new)) for name, old, new in rows]


ARRAY_FAULTS = [
    *_of(
        _OS, "array_cell.sv",
        ("the south's room is not looked at", "go_i & e_room & s_room", "go_i & e_room"),
        ("the east's room is not looked at", "go_i & e_room & s_room", "go_i & s_room"),
        ("the MAC is not waited for", "mac_valid_o & mac_ready_i", "mac_valid_o"),
        ("the north's beat is never taken", "n_ready_o   = moves", "n_ready_o   = 1'b0"),
        ("the north's beat leaves without the west's", "n_ready_o   = moves",
         "n_ready_o   = mac_ready_i & s_room"),
    ),
    *_of(
        _OS, "array_drain.sv",
        ("the own result goes first", "own_turn      = turn_q == ABOVE[TURN_W-1:0]",
         "own_turn      = turn_q == '0"),
        ("the turn does not move on", "own_turn ? '0 : turn_q + 1'b1", "'0"),
        ("the turn does not come back", "own_turn ? '0 : turn_q + 1'b1", "turn_q + 1'b1"),
        ("the turn moves without room", "else if (next_valid & room)", "else if (next_valid)"),
        ("results from above are lost in the own turn", "above_ready_o = ~own_turn & room",
         "above_ready_o = room"),
        ("the own result is lost in another's turn", "held_ready    = own_turn & room",
         "held_ready    = room"),
        ("the own result is sent for another's", "own_turn ? held : above_i", "held"),
    ),
    *_of(
        _OS, MODULE,
        ("tiles are not begun anew", "first_q <= last_i", "first_q <= 1'b0"),
        ("every beat begins a tile", "first_q <= last_i", "first_q <= 1'b1"),
        ("all rows have the scale of row 0", "a_scale_i[i*SA_W+:SA_W]", "a_scale_i[0+:SA_W]"),
        ("all columns have the scale of column 0", "b_scale_i[j*SB_W+:SB_W]", "b_scale_i[0+:SB_W]"),
        ("rows are told as columns", "a_i[i*A_W+:A_W]", "a_i[(ROWS-1-i)*A_W+:A_W]"),
        ("a row of results leaves untaken", ".ready_i(valid_o & ready_i)", ".ready_i(valid_o)"),
    ),
    *_of(
        _WS, "array_cell.sv",
        ("the next weight is not waited for", "n_valid_i & go_i &", "n_valid_i &"),
        ("the sums from the north are not waited for", "w_valid_i & n_valid_i &", "w_valid_i &"),
        ("sums are lost where the MAC stalls", "mac_valid_o & mac_ready_i", "mac_valid_o"),
    ),
    *_of(
        _WS, "array_weight.sv",
        ("the old weight multiplies the first row", "next_i ? data_q : weight_q", "weight_q"),
        ("the next weight is used at once", "next_i ? data_q : weight_q", "data_q"),
        ("the weight is not kept", "weight_q <= data_q", "weight_q <= weight_q"),
        ("a weight stays a row too high", "full      = passed_q == BELOW[PASSED_W-1:0]",
         "full      = passed_q == BELOW[PASSED_W-1:0] - 1'b1"),
        ("a weight that waits is overwritten", "n_ready_o = ~valid_q | leaves", "n_ready_o = 1'b1"),
        ("weights are not counted anew", "full ? '0 : passed_q + 1'b1", "passed_q + 1'b1"),
        ("weights are counted while they wait", "if (valid_q & leaves)", "if (valid_q)"),
        ("a weight on its way is taken for the own", "home_o    = valid_q & full",
         "home_o    = valid_q"),
        ("a weight leaves before it is taken", "leaves    = full ? take_i",
         "leaves    = full ? 1'b1"),
    ),
    *_of(
        _WS, MODULE,
        ("rows without weights multiply", "? fpsim_pkg::OP_DOT : fpsim_pkg::OP_LOAD",
         "? fpsim_pkg::OP_DOT : fpsim_pkg::OP_DOT"),
        ("weights do not change", "first_q <= last_i", "first_q <= 1'b0"),
        ("every row of A changes weights", "first_q <= last_i", "first_q <= 1'b1"),
        ("sums of column 0 for all", "c_i[j*ACC_W+:ACC_W]", "c_i[0+:ACC_W]"),
        ("all rows have the scale of row 0", "a_scale_i[i*SA_W+:SA_W]", "a_scale_i[0+:SA_W]"),
        ("weights are taken before all columns have room", "b_takes   = b_valid_i & b_ready_o",
         "b_takes   = b_valid_i & b_room[COLUMNS-1]"),
    ),
]  # fmt: skip
