// SPDX-License-Identifier: Apache-2.0
// MXFP4 from bfloat16: a block of 32 comes four values a beat; scale and codes leave together.
module mx_quantizer (
    input  logic          clk,
    input  logic          rst_n,
    input  logic          in_valid,
    input  logic [ 63:0]  in_data,
    output logic          out_valid,
    output logic [127:0]  codes,
    output logic [  7:0]  scale
);
  logic [2:0] beat;
  logic [511:0] held;

  always_ff @(posedge clk or negedge rst_n)
    if (!rst_n) begin
      beat <= 0;
      out_valid <= 0;
    end else begin
      out_valid <= 0;
      if (in_valid) begin
        held[64*beat+:64] <= in_data;
        beat <= beat + 1;
        out_valid <= beat == 7;
      end
    end

  // floor(log2) of the largest magnitude; subnormals have it below their field.
  logic [14:0] top;
  logic signed [9:0] exponent;
  always @(*) begin
    top = 0;
    for (int i = 0; i < 32; i++) if (held[16*i+:15] > top) top = held[16*i+:15];
    exponent = $signed({2'b0, top[14:7]});
    if (top[14:7] == 0) begin
      exponent = -6;
      for (int i = 0; i < 7; i++) if (top[i]) exponent = 10'(i) - 6;
    end
    exponent = exponent - 2;  // the exponent of 6
    scale = top == 0 || exponent < 0 ? 8'd0 : exponent[7:0];
  end

  function automatic logic [3:0] element(input logic [15:0] x, input logic [7:0] shared);
    logic [7:0] significand;
    logic signed [9:0] place;  // exponent of the value over the scale
    logic [15:0] fixed;        // the magnitude over the scale, 8 bits below the point
    logic [15:0] unit, half, rest;
    logic [7:0] code;
    significand = {x[14:7] != 0, x[6:0]};
    place = $signed({2'b0, x[14:7] == 0 ? 8'd1 : x[14:7]}) - $signed({2'b0, shared});
    // Bits that are shifted out remain as a sticky bit.
    fixed = 0;
    if (place >= 1) fixed = 16'(significand) << (place + 1);
    else if (place > -8) begin
      fixed = 16'(significand) << 1 >> -place;
      if (((16'(significand) << 1) & ((16'd1 << -place) - 1)) != 0) fixed[0] = 1;
    end else fixed = 16'(significand != 0);
    // 8 bits below the point: steps of 0.5 below 2, of 1 below 4, of 2 above.
    unit = fixed < 16'd512 ? 16'd128 : fixed < 16'd1024 ? 16'd256 : 16'd512;
    half = unit >> 1;
    rest = fixed & (unit - 1);
    code = 8'(fixed / unit);
    if (fixed >= 16'd1024) code = code + 8'd4;
    else if (fixed >= 16'd512) code = code + 8'd2;
`ifdef TIES_AWAY
    if (rest >= half) code = code + 1;
`else
    if (rest > half || (rest == half && code[0])) code = code + 1;
`endif
`ifndef NO_CLAMP
    if (code > 8'd7) code = 8'd7;
`endif
    return {x[15], code[2:0]};
  endfunction

  always @(*) for (int i = 0; i < 32; i++) codes[4*i+:4] = element(held[16*i+:16], scale);
endmodule
