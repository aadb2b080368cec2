// SPDX-License-Identifier: Apache-2.0
//
// A design for the tests of `fpsim verify --dut`: the dot product of two MXFP4 blocks, a byte per
// clock. The scale of a, the scale of b (E8M0), then 32 bytes with an element of each, a in the low
// half. The float32 result waits until it is taken; the next block can come in meanwhile.
module serial_mx #(
    parameter int SIZE = 32
) (
    input  logic        clk,
    input  logic        rst,  // synchronous, active high
    input  logic        in_valid,
    output logic        in_stop,  // high: the byte is not taken
    input  logic [7:0]  in_data,
    output logic        out_valid,
    input  logic        out_ready,
    output logic [31:0] out_data
);

`ifdef BUG_BIAS
  localparam int BIAS = 126;
`else
  localparam int BIAS = 127;
`endif

  function automatic logic [3:0] halves(input logic [2:0] code);
    case (code)
      3'd1:    halves = 4'd1;
      3'd2:    halves = 4'd2;
      3'd3:    halves = 4'd3;
      3'd4:    halves = 4'd4;
      3'd5:    halves = 4'd6;
      3'd6:    halves = 4'd8;
      3'd7:    halves = 4'd12;
      default: halves = 4'd0;
    endcase
  endfunction

  // A sum of quarters times 2^scale, as float32, to nearest even.
  function automatic logic [31:0] to_float(input logic signed [15:0] sum, input int scale);
    logic [15:0] magnitude;
    logic [23:0] significand;
    logic [48:0] wide;
    int top, field;
    magnitude = sum < 0 ? -sum : sum;
    top = 0;
    for (int i = 0; i < 16; i++) if (magnitude[i]) top = i;
    significand = {8'd0, magnitude} << (23 - top);
    field = scale + top - 2 + 127;
    if (magnitude == 0) begin
      to_float = '0;
    end else if (field >= 255) begin
      to_float = {sum[15], 8'hFF, 23'd0};
    end else if (field >= 1) begin
      to_float = {sum[15], field[7:0], significand[22:0]};
    end else begin  // subnormal: one bit of guard, all below are sticky
      wide = {significand, 25'd0} >> (field < -24 ? 26 : 1 - field);
`ifdef BUG_STICKY
      wide[23:0] = '0;
`endif
      to_float = {sum[15], 31'(wide[48:25]) + 31'(wide[24] && (wide[25] || wide[23:0] != 0))};
    end
  endfunction

  localparam int COUNT_W = $clog2(SIZE + 2);

  logic [COUNT_W-1:0] count;
  logic [7:0] a_scale, b_scale;
  logic signed [15:0] acc, next_acc;
  logic taken, last;
  logic [7:0] product;

  assign last    = count == COUNT_W'(SIZE + 1);
  assign in_stop = last && out_valid && !out_ready;
  assign taken   = in_valid && !in_stop;
  assign product = halves(in_data[2:0]) * halves(in_data[6:4]);
  assign next_acc = in_data[3] ^ in_data[7] ? acc - 16'(product) : acc + 16'(product);

  always_ff @(posedge clk) begin
    if (rst) begin
      count     <= '0;
      out_valid <= 1'b0;
    end else begin
      if (out_ready) out_valid <= 1'b0;
      if (taken) begin
        count <= last ? '0 : count + 1'b1;
        case (count)
          0: begin
            a_scale <= in_data;
`ifndef BUG_CLEAR
            acc <= '0;
`endif
          end
          1: b_scale <= in_data;
          default: acc <= next_acc;
        endcase
        if (last) begin
          out_valid <= 1'b1;
          if (a_scale == 8'hFF || b_scale == 8'hFF) out_data <= 32'h7FC00000;
          else out_data <= to_float(next_acc, int'(a_scale) + int'(b_scale) - 2 * BIAS);
        end
      end
    end
  end

endmodule
