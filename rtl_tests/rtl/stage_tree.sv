// SPDX-License-Identifier: Apache-2.0
//
// Adds N terms in a tree of adders, one rounding per node; combinational.
//
//   n1_j = R(terms RADIX j .. RADIX j + RADIX-1),  n2_j = R(nodes n1 of RADIX j ...), ... to one root
//
// ROUNDED rounds each term first. With LANES > 1 the leaves are lanes: lane j adds terms j, j + LANES, ...
// to +0, one rounding each. from_i is the first leaf (JOIN_LEAF; of lanes what the first starts from), one
// more child of the root (JOIN_FUSED), or not in the tree at all (JOIN_ROOT).
module stage_tree #(
    parameter int N          = 8,
    parameter int RADIX      = 2,
    parameter int LANES      = 1,
    parameter int JOIN       = fpsim_pkg::JOIN_ROOT,
    parameter int ROUNDED    = 0,
    parameter int EXP        = 5,
    parameter int MAN        = 10,
    parameter int BIAS       = 15,
    parameter int SPECIALS   = fpsim_pkg::SPECIALS_IEEE,
    parameter int SUBNORMALS = fpsim_pkg::SUBNORMALS_GRADUAL,
    parameter int ROUNDING   = fpsim_pkg::ROUND_RNE,
    parameter int OVERFLOW   = fpsim_pkg::OVERFLOW_INF,
    parameter int TERM_W     = 4,
    parameter int LOW        = -2,                           // exponents of terms
    parameter int HIGH       = 5,
    parameter int EXP_W      = 8                             // see tree_node
) (
    input  logic [EXP+MAN:0]    from_i,
    input  logic [N-1:0]        sign_i,
    input  logic [N*EXP_W-1:0]  exponent_i,
    input  logic [N*TERM_W-1:0] significand_i,
    input  logic [N-1:0]        inf_i,
    input  logic [N-1:0]        nan_i,
    output logic [EXP+MAN:0]    to_o,
    output logic [4:0]          flags_o     // of all nodes
);

  localparam int CODE_W  = 1 + EXP + MAN;
  localparam int SIG_W   = fpsim_pkg::max_of(fpsim_pkg::max_of(MAN + 1, TERM_W), 2);  // a term or a node, exactly
  localparam int NODE_W  = 1 + EXP_W + SIG_W + 2;               // see tree_node
  localparam int LOWEST  = fpsim_pkg::min_of(LOW - TERM_W + 1, 1 - BIAS - MAN);  // of normalised numbers
  localparam int HIGHEST = fpsim_pkg::max_of(HIGH, (1 << EXP) - 1 - BIAS);

  // Leaves; the accumulator stands before the terms where it is one.
  localparam int OWN    = (JOIN == fpsim_pkg::JOIN_LEAF && LANES == 1) ? 1 : 0;
  localparam int LEAVES = (LANES > 1) ? LANES : N + OWN;
  localparam int LEVELS = fpsim_pkg::tree_levels(LEAVES, RADIX);

  // -- the accumulator and the terms as numbers ---------------------------------------------------------
  logic f_sign, f_inf, f_nan;
  logic signed [EXP_W-1:0] f_exponent;
  logic [SIG_W-1:0] f_significand;
  logic [NODE_W-1:0] from;
  logic [N*NODE_W-1:0] terms;
  logic [N*5-1:0] product_flags, lane_flags;

  fp_unpack #(
      .EXP(EXP), .MAN(MAN), .BIAS(BIAS), .SPECIALS(SPECIALS), .SUBNORMALS(SUBNORMALS),
      .EXP_W(EXP_W), .SIG_W(SIG_W)
  ) u_unpack (
      .code_i(from_i), .sign_o(f_sign), .exponent_o(f_exponent), .significand_o(f_significand),
      .inf_o(f_inf), .nan_o(f_nan)
  );

  assign from = {f_sign, f_exponent, f_significand, f_inf, f_nan};

  generate
    for (genvar i = 0; i < N; i++) begin : g_term
      logic [SIG_W-1:0] wide, significand;
      logic signed [EXP_W-1:0] exponent;
      logic [NODE_W-1:0] exact;

      assign wide = {{(SIG_W - TERM_W) {1'b0}}, significand_i[i*TERM_W+:TERM_W]} << (SIG_W - TERM_W);

      fp_normalise #(
          .SIG_W(SIG_W), .EXP_W(EXP_W)
      ) u_normalise (
          .exponent_i(exponent_i[i*EXP_W+:EXP_W]), .significand_i(wide),
          .exponent_o(exponent), .significand_o(significand)
      );

      assign exact = {sign_i[i], exponent, significand, inf_i[i], nan_i[i]};

      if (ROUNDED != 0) begin : g_rounded
        logic [CODE_W-1:0] code;
        tree_node #(
            .N(1), .EXP(EXP), .MAN(MAN), .BIAS(BIAS), .SPECIALS(SPECIALS), .SUBNORMALS(SUBNORMALS),
            .ROUNDING(ROUNDING), .OVERFLOW(OVERFLOW), .SIG_W(SIG_W), .LOW(LOWEST), .HIGH(HIGHEST),
            .EXP_W(EXP_W)
        ) u_round (
            .nodes_i(exact), .code_o(code), .node_o(terms[i*NODE_W+:NODE_W]),
            .flags_o(product_flags[i*5+:5])
        );
        logic unused_code;
        assign unused_code = &{1'b0, code};
      end else begin : g_exact
        assign terms[i*NODE_W+:NODE_W] = exact;
        assign product_flags[i*5+:5]   = '0;
      end
    end
  endgenerate

  // -- lanes --------------------------------------------------------------------------------------------
  logic [LEAVES*NODE_W-1:0] leaves;

  generate
    if (LANES > 1) begin : g_lanes
      for (genvar i = 0; i < N; i++) begin : g_step  // of lane i % LANES, after step i - LANES
        logic [NODE_W-1:0] prior, after;
        logic [CODE_W-1:0] code;
        logic unused_code;

        if (i >= LANES) begin : g_next
          assign prior = g_step[i-LANES].after;
        end else if (i == 0 && JOIN == fpsim_pkg::JOIN_LEAF) begin : g_from
          assign prior = from;
        end else begin : g_zero
          assign prior = '0;
        end

        tree_node #(
            .N(2), .EXP(EXP), .MAN(MAN), .BIAS(BIAS), .SPECIALS(SPECIALS), .SUBNORMALS(SUBNORMALS),
            .ROUNDING(ROUNDING), .OVERFLOW(OVERFLOW), .SIG_W(SIG_W), .LOW(LOWEST), .HIGH(HIGHEST),
            .EXP_W(EXP_W)
        ) u_lane (
            .nodes_i({terms[i*NODE_W+:NODE_W], prior}), .code_o(code), .node_o(after),
            .flags_o(lane_flags[i*5+:5])
        );

        assign unused_code = &{1'b0, code};
        if (i + LANES >= N) begin : g_last
          assign leaves[(i%LANES)*NODE_W+:NODE_W] = after;
        end
      end
    end else if (OWN != 0) begin : g_from
      assign leaves     = {terms, from};
      assign lane_flags = '0;
    end else begin : g_terms
      assign leaves     = terms;
      assign lane_flags = '0;
    end
  endgenerate

  // -- tree -----------------------------------------------------------------------------------------------
  generate
    for (genvar l = 1; l <= LEVELS; l++) begin : g_level
      localparam int BEFORE = fpsim_pkg::nodes_at(LEAVES, RADIX, l - 1);
      localparam int COUNT  = fpsim_pkg::nodes_at(LEAVES, RADIX, l);
      logic [BEFORE*NODE_W-1:0] below;
      logic [COUNT*NODE_W-1:0] nodes;
      logic [COUNT*CODE_W-1:0] codes;
      logic [COUNT*5-1:0] flags;
      logic [4:0] lower, own, sofar;

      if (l == 1) begin : g_leaves
        assign below = leaves;
        assign lower = '0;
      end else begin : g_nodes
        assign below = g_level[l-1].nodes;
        assign lower = g_level[l-1].sofar;
      end

      for (genvar i = 0; i < COUNT; i++) begin : g_node
        localparam int CHILDREN = fpsim_pkg::min_of(RADIX, BEFORE - RADIX * i);
        localparam int ADDED    = (COUNT == 1 && JOIN == fpsim_pkg::JOIN_FUSED) ? 1 : 0;
        logic [(CHILDREN+ADDED)*NODE_W-1:0] children;

        if (ADDED != 0) begin : g_fused
          assign children = {from, below};
        end else begin : g_plain
          assign children = below[RADIX*i*NODE_W+:CHILDREN*NODE_W];
        end

        tree_node #(
            .N(CHILDREN + ADDED),
            .EXP(EXP), .MAN(MAN), .BIAS(BIAS), .SPECIALS(SPECIALS), .SUBNORMALS(SUBNORMALS),
            .ROUNDING(ROUNDING), .OVERFLOW(OVERFLOW), .SIG_W(SIG_W), .LOW(LOWEST), .HIGH(HIGHEST),
            .EXP_W(EXP_W)
        ) u_node (
            .nodes_i(children), .code_o(codes[i*CODE_W+:CODE_W]), .node_o(nodes[i*NODE_W+:NODE_W]),
            .flags_o(flags[i*5+:5])
        );
      end

      any_flags #(
          .N(COUNT)
      ) u_flags (
          .flags_i(flags), .any_o(own)
      );
      assign sofar = lower | own;

      logic unused_codes;
      assign unused_codes = &{1'b0, codes, nodes};
    end
  endgenerate

  logic unused_from;
  assign unused_from = &{1'b0, from};
  assign to_o = g_level[LEVELS].codes;

  any_flags #(
      .N(2 * N + 1)
  ) u_flags (
      .flags_i({product_flags, lane_flags, g_level[LEVELS].sofar}), .any_o(flags_o)
  );

endmodule
