// SPDX-License-Identifier: Apache-2.0
// acc <- saturate(acc + a * b) in sixteenths: E2M1 with bias 2, so that values are quarters.
module mac (
  input  logic               clk,
  input  logic               rst_n,
  input  logic               clear,
  input  logic               enable,
  input  logic        [ 3:0] a,
  input  logic        [ 3:0] b,
  output logic signed [13:0] acc
);
  // Magnitudes in quarters: 0, 1/4, 2/4, 3/4, 1, 3/2, 2, 3.
  function automatic logic [3:0] quarters(input logic [2:0] code);
    case (code)
      3'd0: quarters = 4'd0;
      3'd1: quarters = 4'd1;
      3'd2: quarters = 4'd2;
      3'd3: quarters = 4'd3;
      3'd4: quarters = 4'd4;
      3'd5: quarters = 4'd6;
      3'd6: quarters = 4'd8;
      default: quarters = 4'd12;
    endcase
  endfunction

  logic        [ 7:0] magnitude;
  logic signed [14:0] sum;
  always_comb begin
    magnitude = quarters(a[2:0]) * quarters(b[2:0]);
    sum = 15'(acc) + ((a[3] ^ b[3]) ? -15'(magnitude) : 15'(magnitude));
  end

  always_ff @(posedge clk or negedge rst_n)
    if (!rst_n) acc <= '0;
    else if (clear) acc <= '0;
    else if (enable) begin
      if (sum > 15'sd8191) acc <= 14'sd8191;
      else if (sum < -15'sd8192) acc <= -14'sd8192;
      else acc <= sum[13:0];
    end
endmodule
