// SPDX-License-Identifier: Apache-2.0
//
// Dot product of LANES products in a balanced tree of adders, one rounding per node, then the addend.
//
//   n1_j = R(p_2j + p_2j+1),  n2_j = R(n1_2j + n1_2j+1), ...;   acc <- R(x + root)
//
// x is acc under MAC, c_i under DOT. Products are exact; a node with one child rounds it. Stream and
// operations: see acc_stream; zeros, NaN and infinity: see fp_sum.
//
// PIPELINE registers stand before the accumulator, half of them (rounded up) between tree and sum,
// the others at the inputs; a synthesis tool with retiming may move them. The accumulator itself takes
// one clock: a result comes PIPELINE + 1 clocks after its last beat.
module dot_tree #(
    parameter int LANES        = 8,                              // products per beat
    parameter int A_EXP        = 2,                              // operands: see fp_decode
    parameter int A_MAN        = 1,
    parameter int A_BIAS       = 1,
    parameter int A_SPECIALS   = fpsim_pkg::SPECIALS_NONE,
    parameter int A_SUBNORMALS = fpsim_pkg::SUBNORMALS_GRADUAL,
    parameter int B_EXP        = 2,
    parameter int B_MAN        = 1,
    parameter int B_BIAS       = 1,
    parameter int B_SPECIALS   = fpsim_pkg::SPECIALS_NONE,
    parameter int B_SUBNORMALS = fpsim_pkg::SUBNORMALS_GRADUAL,
    parameter int ACC_EXP      = 8,                              // accumulator: up to E8M23
    parameter int ACC_MAN      = 23,
    parameter int ACC_BIAS     = 127,
    parameter int ACC_SPECIALS = fpsim_pkg::SPECIALS_IEEE,
    parameter int ROUNDING     = fpsim_pkg::ROUND_RNE,
    parameter int OVERFLOW     = fpsim_pkg::OVERFLOW_INF,
    parameter int PIPELINE     = 1                                // registers before the accumulator
) (
    input  logic                             clk_i,
    input  logic                             rst_ni,     // asynchronous, active low
    input  logic                             valid_i,
    output logic                             ready_o,
    input  logic [2:0]                       op_i,       // fpsim_pkg::OP_*
    input  logic                             last_i,     // a result is due after this beat
    input  logic [LANES*(A_EXP+A_MAN+1)-1:0] a_i,        // element 0 in the low bits
    input  logic [LANES*(B_EXP+B_MAN+1)-1:0] b_i,
    input  logic [ACC_EXP+ACC_MAN:0]         c_i,
    output logic                             valid_o,
    input  logic                             ready_i,
    output logic [ACC_EXP+ACC_MAN:0]         acc_o
);

  // -- derived, do not change ---------------------------------------------------------------------
  localparam int ACC_W     = 1 + ACC_EXP + ACC_MAN;
  localparam int PRODUCT_W = A_MAN + B_MAN + 2;
  localparam int SIG_W     = fpsim_pkg::max_of(ACC_MAN + 1, PRODUCT_W);  // either addend, exactly
  localparam int LEVELS    = fpsim_pkg::max_of($clog2(LANES), 1);

  // Exponents of top bits: products', nodes', and what normalising can take off.
  localparam int PRODUCT_HIGH = fpsim_pkg::exponent_high(A_EXP, A_MAN, A_BIAS)
                              + fpsim_pkg::exponent_high(B_EXP, B_MAN, B_BIAS) + 1;
  localparam int PRODUCT_LOW  = fpsim_pkg::exponent_low(A_EXP, A_MAN, A_BIAS, A_SUBNORMALS)
                              + fpsim_pkg::exponent_low(B_EXP, B_MAN, B_BIAS, B_SUBNORMALS) + 1;
  localparam int RANGE_W   = fpsim_pkg::signed_width(
      fpsim_pkg::min_of(PRODUCT_LOW, 1 - ACC_BIAS) - SIG_W - 4,
      fpsim_pkg::max_of(PRODUCT_HIGH, (1 << ACC_EXP) - 1 - ACC_BIAS) + 1);
  localparam int FIELD_W   = 1 + fpsim_pkg::max_of(ACC_EXP, fpsim_pkg::max_of(A_EXP, B_EXP));
  localparam int EXP_W     = fpsim_pkg::max_of(RANGE_W, FIELD_W);

  localparam int A_W     = LANES * (A_EXP + A_MAN + 1);
  localparam int B_W     = LANES * (B_EXP + B_MAN + 1);
  localparam int BEAT_W  = 3 + 1 + A_W + B_W + ACC_W;
  localparam int ROOT_W  = 1 + EXP_W + SIG_W + 2;
  localparam int TERMS_W = 3 + 1 + ROOT_W + ACC_W;

  // -- beats in ---------------------------------------------------------------------------------------
  logic valid, ready, last;
  logic [2:0] op;
  logic [A_W-1:0] a;
  logic [B_W-1:0] b;
  logic [ACC_W-1:0] c;

  stream_pipe #(
      .W(BEAT_W), .DEPTH(PIPELINE / 2)
  ) u_beats (
      .clk_i(clk_i), .rst_ni(rst_ni), .valid_i(valid_i), .ready_o(ready_o),
      .data_i({op_i, last_i, a_i, b_i, c_i}),
      .valid_o(valid), .ready_i(ready),
      .data_o({op, last, a, b, c})
  );

  // -- tree: level 0 are the products, every level above holds the sums of pairs, as normalised numbers --
  generate
    for (genvar l = 0; l <= LEVELS; l++) begin : g_level
      localparam int COUNT = (LANES + (1 << l) - 1) >> l;
      logic [COUNT-1:0] sign, inf, nan;
      logic [COUNT*EXP_W-1:0] exponent;
      logic [COUNT*SIG_W-1:0] significand;

      for (genvar i = 0; i < COUNT; i++) begin : g_node
        logic signed [EXP_W-1:0] own_exponent;
        logic [SIG_W-1:0] own_significand;
        assign exponent[i*EXP_W+:EXP_W]    = own_exponent;
        assign significand[i*SIG_W+:SIG_W] = own_significand;

        if (l == 0) begin : g_product
          logic signed [EXP_W-1:0] top;
          logic [PRODUCT_W-1:0] product;
          logic [SIG_W-1:0] wide;

          fp_product #(
              .A_EXP(A_EXP), .A_MAN(A_MAN), .A_BIAS(A_BIAS), .A_SPECIALS(A_SPECIALS), .A_SUBNORMALS(A_SUBNORMALS),
              .B_EXP(B_EXP), .B_MAN(B_MAN), .B_BIAS(B_BIAS), .B_SPECIALS(B_SPECIALS), .B_SUBNORMALS(B_SUBNORMALS),
              .SCALE_W(0), .EXP_W(EXP_W)
          ) u_product (
              .a_i(a[i*(A_EXP+A_MAN+1)+:A_EXP+A_MAN+1]), .b_i(b[i*(B_EXP+B_MAN+1)+:B_EXP+B_MAN+1]),
              .exp_i(1'b0),
              .sign_o(sign[i]), .exponent_o(top), .significand_o(product), .inf_o(inf[i]), .nan_o(nan[i])
          );
          assign wide = {{(SIG_W - PRODUCT_W) {1'b0}}, product} << (SIG_W - PRODUCT_W);

          fp_normalise #(
              .SIG_W(SIG_W), .EXP_W(EXP_W)
          ) u_normalise (
              .exponent_i(top), .significand_i(wide),
              .exponent_o(own_exponent), .significand_o(own_significand)
          );
        end else begin : g_sum
          localparam int BEFORE = (LANES + (1 << (l - 1)) - 1) >> (l - 1);
          localparam int Y      = fpsim_pkg::min_of(2 * i + 1, BEFORE - 1);
          localparam logic PAIR = 2 * i + 1 < BEFORE;  // else y is a zero that changes nothing
          logic [ACC_W-1:0] code;

          fp_sum #(
              .EXP(ACC_EXP), .MAN(ACC_MAN), .BIAS(ACC_BIAS), .SPECIALS(ACC_SPECIALS),
              .ROUNDING(ROUNDING), .OVERFLOW(OVERFLOW), .EXP_W(EXP_W), .SIG_W(SIG_W)
          ) u_sum (
              .x_sign_i(g_level[l-1].sign[2*i]),
              .x_exponent_i(g_level[l-1].exponent[2*i*EXP_W+:EXP_W]),
              .x_significand_i(g_level[l-1].significand[2*i*SIG_W+:SIG_W]),
              .x_inf_i(g_level[l-1].inf[2*i]), .x_nan_i(g_level[l-1].nan[2*i]),
              .y_sign_i(g_level[l-1].sign[Y]),
              .y_exponent_i(g_level[l-1].exponent[Y*EXP_W+:EXP_W]),
              .y_significand_i(g_level[l-1].significand[Y*SIG_W+:SIG_W] & {SIG_W{PAIR}}),
              .y_inf_i(g_level[l-1].inf[Y] & PAIR), .y_nan_i(g_level[l-1].nan[Y] & PAIR),
              .code_o(code)
          );

          fp_unpack #(
              .EXP(ACC_EXP), .MAN(ACC_MAN), .BIAS(ACC_BIAS), .SPECIALS(ACC_SPECIALS),
              .EXP_W(EXP_W), .SIG_W(SIG_W)
          ) u_unpack (
              .code_i(code),
              .sign_o(sign[i]), .exponent_o(own_exponent), .significand_o(own_significand),
              .inf_o(inf[i]), .nan_o(nan[i])
          );
        end
      end
    end
  endgenerate

  logic [ROOT_W-1:0] root;
  assign root = {g_level[LEVELS].sign, g_level[LEVELS].exponent, g_level[LEVELS].significand,
                 g_level[LEVELS].inf, g_level[LEVELS].nan};

  // -- sum --------------------------------------------------------------------------------------------
  logic t_valid, t_ready, t_last;
  logic [2:0] t_op;
  logic [ROOT_W-1:0] t_root;
  logic [ACC_W-1:0] t_c, addend, sum;

  stream_pipe #(
      .W(TERMS_W), .DEPTH(PIPELINE - PIPELINE / 2)
  ) u_terms (
      .clk_i(clk_i), .rst_ni(rst_ni), .valid_i(valid), .ready_o(ready),
      .data_i({op, last, root, c}),
      .valid_o(t_valid), .ready_i(t_ready),
      .data_o({t_op, t_last, t_root, t_c})
  );

  logic x_sign, x_inf, x_nan, y_sign, y_inf, y_nan;
  logic signed [EXP_W-1:0] x_exponent, y_exponent;
  logic [SIG_W-1:0] x_significand, y_significand;

  assign {y_sign, y_exponent, y_significand, y_inf, y_nan} = t_root;

  fp_unpack #(
      .EXP(ACC_EXP), .MAN(ACC_MAN), .BIAS(ACC_BIAS), .SPECIALS(ACC_SPECIALS), .EXP_W(EXP_W), .SIG_W(SIG_W)
  ) u_unpack_addend (
      .code_i(addend), .sign_o(x_sign), .exponent_o(x_exponent), .significand_o(x_significand),
      .inf_o(x_inf), .nan_o(x_nan)
  );

  fp_sum #(
      .EXP(ACC_EXP), .MAN(ACC_MAN), .BIAS(ACC_BIAS), .SPECIALS(ACC_SPECIALS),
      .ROUNDING(ROUNDING), .OVERFLOW(OVERFLOW), .EXP_W(EXP_W), .SIG_W(SIG_W)
  ) u_sum (
      .x_sign_i(x_sign), .x_exponent_i(x_exponent), .x_significand_i(x_significand),
      .x_inf_i(x_inf), .x_nan_i(x_nan),
      .y_sign_i(y_sign), .y_exponent_i(y_exponent), .y_significand_i(y_significand),
      .y_inf_i(y_inf), .y_nan_i(y_nan),
      .code_o(sum)
  );
  acc_stream #(
      .W(ACC_W)
  ) u_acc (
      .clk_i(clk_i), .rst_ni(rst_ni), .valid_i(t_valid), .ready_o(t_ready),
      .op_i(t_op), .last_i(t_last), .c_i(t_c), .addend_o(addend), .sum_i(sum),
      .valid_o(valid_o), .ready_i(ready_i), .acc_o(acc_o)
  );

endmodule
