// SPDX-License-Identifier: Apache-2.0
//
// Right designs whose ports are an interface and structs (unit e2m1-fixed10q2).

interface beat_bus #(
    parameter int W = 8
) (
    input logic clk
);
  logic [W-1:0] a, b;
  logic         valid;
  logic [9:0]   sum;
  logic         done;
  modport adder(input clk, a, b, valid, output sum, done);
endinterface

package mappings_pkg;
  typedef struct packed {
    logic       clear;
    logic [3:0] a;
    logic [3:0] b;
  } order_t;
  typedef struct {
    order_t     work;
    logic [3:0] unused[0:1];
    logic       enable;
  } request_t;
  typedef struct packed {
    logic       negative;
    logic [9:0] sum;
  } answer_t;
endpackage

// Everything but the clock stands in an interface that is as wide as its parameter says.
module on_a_bus (
    input logic    clk,
    beat_bus.adder port
);
  always_ff @(posedge clk) begin
    port.done <= port.valid;
    port.sum  <= awkward_pkg::term(port.a[3:0], port.b[3:0]) + {6'd0, port.a[7:4]};
  end
endmodule

// Its ports are structs, one with unpacked members, one packed, and a type that is a parameter.
module in_structs #(
    parameter type TAG = logic
) (
    input  logic                   clk,
    input  TAG                     tag,
    input  mappings_pkg::request_t request,
    output mappings_pkg::answer_t  answer
);
  logic [9:0] sum;
  always_ff @(posedge clk) begin
    if (request.work.clear) sum <= '0;
    else if (request.enable && tag == 3'd5) begin
      sum <= sum + awkward_pkg::term(request.work.a, request.work.b)
           + {6'd0, request.unused[0] ^ request.unused[1]};
    end
  end
  assign answer.sum = sum;
  assign answer.negative = sum[9];
endmodule
