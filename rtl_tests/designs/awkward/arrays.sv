// SPDX-License-Identifier: Apache-2.0
//
// Ports that are unpacked arrays and a packed struct: four products onto zero (e2m1-fixed10q2).
package arrays_pkg;
  typedef struct packed { logic sign; logic [2:0] magnitude; } code_t;
endpackage

module array_ports #(
    parameter int LANES = 2,
    parameter awkward_pkg::mode_t MODE = awkward_pkg::ODD
) (
    input  logic                       clk,
    input  logic [3:0]                 a [0:LANES-1],
    input  arrays_pkg::code_t [LANES-1:0] b,
    output logic [4:0]                 y [1:0]
);
  logic [9:0] sum;
  always_comb begin
    sum = '0;
    for (int i = 0; i < LANES; i++) sum = sum + awkward_pkg::term(a[i], b[i]);
  end
  always_ff @(posedge clk) begin
    if (MODE == awkward_pkg::PLAIN) {y[1], y[0]} <= sum;
  end
endmodule

module with_interface (
    input logic clk,
    bus.slave   port
);
endmodule

interface bus;
  logic [3:0] a;
  modport slave(input a);
endinterface
